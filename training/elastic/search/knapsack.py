"""The best widths under a budget, exactly: a multiple-choice knapsack by its Pareto front.

Groups are added one after the other; of all sums of (bytes, value) so far only those stay that no
other one beats in both. Groups of like size make few distinct sums of bytes, so the front stays
short (at most groups times widths times their size classes), and nothing is rounded.
"""

# S states of the front, G item groups, W widths

from __future__ import annotations

import numpy as np

from training.elastic.search.problem import Floats, Ints, Problem

# What one whole table of bytes is worth: far less than any gain that can be measured, so that it
# only decides between equals, in favour of the wider one.
_WORTH_OF_BYTES = 1e-9


def knapsack(problem: Problem) -> Ints:
    """Return choice_G of the highest value within the budget; of equals the one of most bytes."""
    worth_GW = problem.value_GW + _WORTH_OF_BYTES * problem.bytes_GW / problem.most
    room = problem.budget - problem.fixed
    # What the groups still to come take at least: a state that leaves less is lost.
    least_after = np.cumsum(problem.bytes_GW[::-1, 0])[::-1] - problem.bytes_GW[:, 0]
    bytes_S = np.zeros(1, dtype=np.int64)
    value_S = np.zeros(1)
    steps: list[tuple[Ints, Ints]] = []
    for group in range(problem.groups):
        bytes_N = (bytes_S[:, None] + problem.bytes_GW[group]).ravel()
        value_N = (value_S[:, None] + worth_GW[group]).ravel()
        kept = _front(bytes_N, value_N, room - int(least_after[group]))
        bytes_S, value_S = bytes_N[kept], value_N[kept]
        before, place = np.divmod(kept, problem.bytes_GW.shape[1])
        steps.append((before, place))
    state = len(value_S) - 1  # both rise along the front
    choice_G = np.empty(problem.groups, dtype=np.int64)
    for group in range(problem.groups - 1, -1, -1):
        before, place = steps[group]
        choice_G[group] = place[state]
        state = int(before[state])
    return choice_G


def _front(bytes_N: Ints, value_N: Floats, room: int) -> Ints:
    """Return the places of the sums within `room` that no other one beats, by rising bytes."""
    order = np.lexsort((-value_N, bytes_N))
    order = order[bytes_N[order] <= room]
    values = value_N[order]
    best = np.maximum.accumulate(values)
    rises = np.ones(len(order), dtype=np.bool_)
    rises[1:] = values[1:] > best[:-1]
    return order[rises]

"""The choices that a search has to beat: by chance, one width for all, widths by popularity."""

# G item groups, W widths

from __future__ import annotations

import math

import numpy as np

from training.elastic.search.problem import Ints, Problem, widen

_HALVINGS = 60


def uniform(problem: Problem) -> Ints:
    """Return the widest width that all groups can have; what is left widens the popular ones.

    Without the second half a budget that lies between two widths would be wasted.
    """
    choice_G = np.zeros(problem.groups, dtype=np.int64)
    for place in range(len(problem.widths_W)):
        wider_G = np.full(problem.groups, place)
        if problem.fits(wider_G):
            choice_G = wider_G
    return widen(problem, choice_G, np.arange(problem.groups))


def by_popularity(problem: Problem) -> Ints:
    """Return widths in proportion to each group's traffic, as wide as fits, rounded down.

    What rounding leaves widens the popular groups.
    """
    share_G = problem.traffic_G / max(float(problem.traffic_G.max()), 1e-12)
    widest = int(problem.widths_W[-1])

    def at(factor: float) -> Ints:
        wanted_G = np.minimum(factor * share_G * widest, widest)
        return np.maximum(np.searchsorted(problem.widths_W, wanted_G, side="right") - 1, 0)

    # By ratio, since both ends are far off: at the lower one every group is at the least width.
    low, high = 1e-9, 1e9
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        if problem.fits(at(middle)):
            low = middle
        else:
            high = middle
    return widen(problem, at(low), np.arange(problem.groups))


def random_choice(problem: Problem, generator: np.random.Generator) -> Ints:
    """Return a choice drawn by widening random groups, a step each, until nothing fits."""
    choice_G = np.zeros(problem.groups, dtype=np.int64)
    left = problem.budget - problem.bytes_of(choice_G)
    last = len(problem.widths_W) - 1
    open_G = list(range(problem.groups))
    while open_G:
        drawn = int(generator.integers(len(open_G)))
        group = open_G[drawn]
        place = int(choice_G[group])
        step = 0 if place == last else int(np.diff(problem.bytes_GW[group])[place])
        if place == last or step > left:
            open_G.pop(drawn)
            continue
        choice_G[group] += 1
        left -= step
    return choice_G

"""Pick the submodels worth serving: few, spread along the frontier of cost and quality."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.config import Submodel, SupernetConfig
from models.lengths import reads_of

MOST_SERVED = 6
LEAST_SERVED = 4
# What costs so little more than the cheapest is as cheap.
_AS_CHEAP = 1.1
# What reads less than this share of what the network can is tried with the fewest layers alone:
# there is little to see for more of them.
_LITTLE_READ = 1 / 8


def candidates(config: SupernetConfig, lengths_U: NDArray[np.int64]) -> tuple[Submodel, ...]:
    """Return what may be served: the grid at several reading lengths, the full network last.

    `lengths_U` are the histories' lengths; what most of them do not reach is not told apart from
    reading everything, and is left out. A grid of one is a plain network, and stays one.
    """
    if len(config.submodels) == 1:
        return config.submodels
    most = config.max_length
    usual = min(most, float(np.quantile(lengths_U, 0.75))) if len(lengths_U) else 0.0
    shorter = [length for length in reads_of(most) if length < usual]
    return tuple(
        replace(one, length=length)
        for one in config.submodels
        for length in (*shorter, 0)
        if not 0 < length < _LITTLE_READ * most or one.depth == config.depths[0]
    )


def pick_served(
    submodels: Sequence[Submodel], quality: Sequence[float], cost: Sequence[float]
) -> list[Submodel]:
    """Return four to six submodels by rising cost, so that every budget is well spent.

    `quality` (higher is better) and `cost` (positive, any unit) stand beside `submodels`, whose
    last is the full network, always served and last. A budget between two submodels is met by
    mixing them, as the router does, so what counts is the quality of mixtures: the corners of
    the concave hull of quality over cost are served, from the best of those that cost at most a
    tenth more than the cheapest. Too many corners: those without which budgets, spread evenly
    by ratio, lose least go. Too few: the best of the widest gaps in cost join, since a submodel
    that is worse on average may still be better for some. A submodel that costs more than the
    full network is never picked.
    """
    full = len(submodels) - 1
    order = sorted(range(full), key=lambda i: (cost[i], -quality[i]))
    order = [i for i in order if cost[i] < cost[full]]
    as_cheap = [i for i in order if cost[i] <= _AS_CHEAP * cost[order[0]]]
    if as_cheap:
        start = max(as_cheap, key=lambda i: quality[i])
        order = order[order.index(start) :]
    frontier: list[int] = []
    for index in order:
        if not frontier or quality[index] > quality[frontier[-1]]:
            frontier.append(index)
    hull = _hull([*frontier, full], quality, cost)
    while len(hull) > MOST_SERVED:
        hull.remove(min(hull[1:-1], key=lambda i: _lost(hull, i, quality, cost)))
    rest = [i for i in order if i not in hull]
    while len(hull) < LEAST_SERVED and rest:
        kept = tuple(hull)
        chosen = max(
            rest, key=lambda i: (min(abs(math.log(cost[i] / cost[j])) for j in kept), quality[i])
        )
        rest.remove(chosen)
        hull = sorted([*hull, chosen], key=lambda i: (cost[i], i == full))
    return [submodels[i] for i in hull]


def _hull(frontier: Sequence[int], quality: Sequence[float], cost: Sequence[float]) -> list[int]:
    """Return the corners of the concave hull of a Pareto set by rising cost, its ends included.

    Its last is the full network, which counts as no worse than any: it stays an end.
    """
    best = max(quality[i] for i in frontier)
    height = {i: quality[i] for i in frontier} | {frontier[-1]: best}
    hull: list[int] = []
    for index in frontier:
        while len(hull) > 1:
            before, last = hull[-2:]
            share = (cost[last] - cost[before]) / (cost[index] - cost[before])
            if height[last] > height[before] + share * (height[index] - height[before]):
                break
            hull.pop()
        hull.append(index)
    return hull


def _lost(
    hull: Sequence[int], index: int, quality: Sequence[float], cost: Sequence[float]
) -> float:
    """Return the area over log cost between the hull and what is left of it without `index`."""
    place = hull.index(index)
    before, after = hull[place - 1], hull[place + 1]
    return (
        _area(before, index, quality, cost)
        + _area(index, after, quality, cost)
        - _area(before, after, quality, cost)
    )


def _area(left: int, right: int, quality: Sequence[float], cost: Sequence[float]) -> float:
    """Return the integral of the line between two points over the logarithm of cost."""
    slope = (quality[right] - quality[left]) / (cost[right] - cost[left])
    ratio = math.log(cost[right] / cost[left])
    return (quality[left] - slope * cost[left]) * ratio + slope * (cost[right] - cost[left])

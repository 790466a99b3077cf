"""Pick the submodels worth serving: few, spread along the frontier of cost and quality."""

from __future__ import annotations

import math
from collections.abc import Sequence

from models.config import Submodel

MOST_SERVED = 6
LEAST_SERVED = 4


def pick_served(
    submodels: Sequence[Submodel], quality: Sequence[float], cost: Sequence[float]
) -> list[Submodel]:
    """Return four to six submodels by rising cost: the Pareto set, its ends included.

    `quality` (higher is better) and `cost` (positive, any unit) stand beside `submodels`, whose
    last is the full network, always served and last. Too many Pareto points: those that add the
    least area under the frontier over log cost go. Too few: the best of the widest gaps in cost
    join, since a submodel that is worse on average may still be better for some. A submodel
    that costs more than the full network is never picked.
    """
    order = sorted(range(len(submodels)), key=lambda i: (cost[i], -quality[i]))
    full = len(submodels) - 1
    order = [i for i in order if i != full and cost[i] < cost[full]]
    frontier: list[int] = []
    for index in order:
        if not frontier or quality[index] > quality[frontier[-1]]:
            frontier.append(index)
    while len(frontier) > MOST_SERVED - 1:
        frontier.remove(min(frontier[1:-1], key=lambda i: _area(frontier, i, quality, cost)))
    rest = [i for i in order if i not in frontier]
    while len(frontier) < LEAST_SERVED - 1 and rest:
        kept = [*frontier, full]
        chosen = max(
            rest, key=lambda i: (min(abs(math.log(cost[i] / cost[j])) for j in kept), quality[i])
        )
        rest.remove(chosen)
        frontier = sorted([*frontier, chosen], key=lambda i: cost[i])
    return [submodels[i] for i in (*frontier, full)]


def _area(
    frontier: Sequence[int], index: int, quality: Sequence[float], cost: Sequence[float]
) -> float:
    """Return the area that is lost when `index` leaves the frontier."""
    place = frontier.index(index)
    gain = quality[index] - quality[frontier[place - 1]]
    return gain * math.log(cost[frontier[place + 1]] / cost[index])

"""Pick the submodels worth serving: few, spread along the frontier of cost and quality."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.config import Submodel, SupernetConfig
from models.lengths import buckets

MOST_SERVED = 6
LEAST_SERVED = 4
# A submodel that reads less than this share of what the network can is not tried.
_LEAST_READ = 1 / 8


def candidates(config: SupernetConfig, lengths_U: NDArray[np.int64]) -> tuple[Submodel, ...]:
    """Return what may be served: the grid at several reading lengths, the full network last.

    `lengths_U` are the histories' lengths; what most of them do not reach is not told apart from
    reading everything, and is left out. A grid of one is a plain network, and stays one.
    """
    if len(config.submodels) == 1:
        return config.submodels
    most = config.max_length
    usual = min(most, float(np.quantile(lengths_U, 0.75))) if len(lengths_U) else 0.0
    shorter = [length for length in buckets(most)[:-1] if _LEAST_READ * most <= length < usual]
    return tuple(
        replace(one, length=length) for one in config.submodels for length in (*shorter, 0)
    )


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

"""From measurements to a search's problem: what every group's width is worth, and what it takes."""

# G item groups, W widths

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.checkpoint.elastic import ElasticEntry
from models.table.resident import bias_bytes, block_bytes
from training.elastic.narrow import narrowing_of
from training.elastic.search.problem import Problem

Floats = NDArray[np.float64]

_MEASURED = 0.5
"""How much a group's own measurements weigh beside its share of the interactions."""
_POWERS = np.arange(0.1, 2.05, 0.1)
# Of NDCG@10: where no loss was seen at all, narrower is still a little worse, and groups that are
# met more often lose more.
_LEAST_LOSS = 1e-6


def values(entry: ElasticEntry) -> Floats:
    """Return value_GW: NDCG@10 that a group at a width costs, negative or 0, rising along W.

    What all groups at one width cost together is seen well (every case tells of it); what one group
    costs alone is a few ten-thousandths and mostly chance on some thousand cases, and an exact
    search takes every such chance for a bargain. So the joint losses are smoothed along the widths
    and divided among the groups: half by what each was seen to lose, all widths together, half by
    its share of the interactions.
    """
    joint_W = _smooth(entry)
    return _shares(entry, joint_W)[:, None] * joint_W


def _smooth(entry: ElasticEntry) -> Floats:
    """Return joint_W: the loss at each width as -a (width^-p - whole^-p), least squares, a > 0."""
    widths_W = np.array(entry.widths, dtype=np.float64)
    seen_W = np.array(entry.uniform_ndcg_10) - entry.uniform_ndcg_10[-1]
    best, least = np.zeros(len(widths_W)), np.inf
    for power in _POWERS:
        shape_W = widths_W**-power - widths_W[-1] ** -power
        size = float(shape_W @ shape_W)
        factor = 0.0 if size == 0 else max(_LEAST_LOSS, -float(seen_W @ shape_W) / size)
        joint_W = -factor * shape_W
        error = float(np.square(seen_W - joint_W).sum())
        if error < least:
            best, least = joint_W, error
    return best


def _shares(entry: ElasticEntry, joint_W: Floats) -> Floats:
    """Return share_G: how the joint loss is divided among the groups; they sum to 1."""
    alone_GW = np.array(entry.ndcg_10)
    alone_GW -= alone_GW[:, -1:]
    # The factor of the joint loss that fits a group's losses best; a gain counts as no loss.
    seen_G = np.maximum(0.0, alone_GW @ joint_W)
    traffic_G = np.array(entry.traffic)
    even_G = np.full(len(traffic_G), 1 / len(traffic_G))
    parts = [
        part_G / part_G.sum() if part_G.sum() > 0 else even_G for part_G in (seen_G, traffic_G)
    ]
    return np.asarray(_MEASURED * parts[0] + (1 - _MEASURED) * parts[1])


def expected_ndcg(entry: ElasticEntry, widths: tuple[int, ...]) -> float:
    """Return what the measurements say of these widths of the groups, at least 0."""
    value_GW = values(entry)
    places = [entry.widths.index(width) for width in widths]
    loss = sum(float(value_GW[group, place]) for group, place in enumerate(places))
    return max(0.0, entry.uniform_ndcg_10[-1] + loss)


def problem_of(entry: ElasticEntry, budget: int, query_widths: int) -> Problem:
    """Return the search's problem; ValueError when the budget is below the least feasible one.

    Bytes are those of `models/table/resident.py`, with every group a block of its own: neighbours
    of the same columns make one block, which takes no more. A group long enough for a search index
    is charged one, for `query_widths` embedding widths. A wider choice is charged more than a
    narrower one by a byte at least, also where alignment or a list of columns says otherwise.
    """
    elastic = narrowing_of(entry).elastic
    bytes_GW = np.array(
        [
            [
                block_bytes(
                    size, width, query_widths, named=elastic.columns(group, place) is not None
                )
                for place, width in enumerate(elastic.widths)
            ]
            for group, size in enumerate(elastic.sizes.tolist())
        ],
        dtype=np.int64,
    )
    steps_W = np.arange(len(elastic.widths))
    return Problem(
        budget=budget,
        widths_W=np.array(entry.widths, dtype=np.int64),
        bytes_GW=np.maximum.accumulate(bytes_GW - steps_W, axis=1) + steps_W,
        value_GW=values(entry),
        traffic_G=np.array(entry.traffic),
        fixed=bias_bytes(entry.stops[-1]),
    )

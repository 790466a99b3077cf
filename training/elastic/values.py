"""From measurements to a search's problem: what every group's width is worth, and what it takes."""

# G item groups, W widths

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.checkpoint.elastic import ElasticEntry
from models.table.resident import bias_bytes, block_bytes
from training.elastic.narrow import narrowing_of
from training.elastic.search.problem import Problem
from training.fit.router_fit import pooled

Floats = NDArray[np.float64]

_LEAST_LOSS = 1e-6


def values(entry: ElasticEntry) -> Floats:
    """Return value_GW: NDCG@10 that a group at a width costs, negative or 0, rising along W.

    NDCG@10 itself does not tell what one group costs: a few ten-thousandths, mostly chance on some
    thousand cases, and an exact search takes every such chance for a bargain. What is divided among
    groups and widths is told by all cases: half of it by how far the scores of all items move from
    those of whole rows, half by how far the targets move down. How much it is altogether, in
    NDCG@10, is what was seen with all groups at one width, least squares over the widths.
    """
    cost_GW = sum(
        matrix / total
        for matrix in (np.array(entry.divergence), np.array(entry.log_rank))
        if (total := float(np.abs(matrix).sum())) > 0
    )
    gain_GW = np.stack([pooled(row) for row in -np.broadcast_to(cost_GW, _shape(entry))])
    gain_GW -= gain_GW[:, -1:]
    joint_W = gain_GW.sum(axis=0)
    seen_W = np.array(entry.uniform_ndcg_10) - entry.uniform_ndcg_10[-1]
    size = float(joint_W @ joint_W)
    # Where no loss was seen at all, narrower is still a little worse.
    factor = 0.0 if size == 0 else max(_LEAST_LOSS, float(seen_W @ joint_W) / size)
    return factor * gain_GW


def _shape(entry: ElasticEntry) -> tuple[int, int]:
    return len(entry.stops), len(entry.widths)


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

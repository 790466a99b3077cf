"""From measurements to a search's problem: what every group's width is worth, and what it takes."""

# G item groups, W widths

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.checkpoint.elastic import ElasticEntry
from models.table.resident import bias_bytes, block_bytes
from training.elastic.search.problem import Problem
from training.fit.router_fit import pooled

Floats = NDArray[np.float64]

_TINY = 1e-7
_LEAST_FACTOR, _MOST_FACTOR = 0.1, 10.0


def values(entry: ElasticEntry) -> Floats:
    """Return value_GW: NDCG@10 that a group at a width costs, negative or 0, rising along W.

    Measured are groups narrowed one at a time. What they cost together is more (or less), and is
    measured where all have one width; so the losses at a width are scaled to sum to what that
    width was seen to cost. A wider row is never worth less: what noise says against it is pooled.
    """
    loss_GW = np.stack([pooled(np.array(row)) for row in entry.ndcg_10])
    loss_GW -= loss_GW[:, -1:]
    joint_W = pooled(np.array(entry.uniform_ndcg_10))
    joint_W -= joint_W[-1]
    traffic_G = np.array(entry.traffic)
    for place, joint in enumerate(joint_W.tolist()):
        alone = float(loss_GW[:, place].sum())
        if alone < -_TINY:
            factor = min(max(joint / alone, _LEAST_FACTOR), _MOST_FACTOR)
            loss_GW[:, place] *= factor
        else:
            loss_GW[:, place] = joint * traffic_G
    value_GW = np.stack([pooled(row) for row in loss_GW])
    return value_GW - value_GW[:, -1:]


def expected_ndcg(entry: ElasticEntry, widths: tuple[int, ...]) -> float:
    """Return what the measurements say of these widths of the groups, at least 0."""
    value_GW = values(entry)
    places = [entry.widths.index(width) for width in widths]
    loss = sum(float(value_GW[group, place]) for group, place in enumerate(places))
    return max(0.0, entry.uniform_ndcg_10[-1] + loss)


def problem_of(entry: ElasticEntry, budget: int, query_widths: int) -> Problem:
    """Return the search's problem; ValueError when the budget is below the least feasible one.

    Bytes are those of `models/table/resident.py`, with every group a block of its own: neighbours
    of one width make one block, which takes no more. A group long enough for a search index is
    charged one, for `query_widths` embedding widths.
    """
    rows = np.diff(entry.stops, prepend=0).tolist()
    return Problem(
        budget=budget,
        widths_W=np.array(entry.widths, dtype=np.int64),
        bytes_GW=np.array(
            [[block_bytes(size, width, query_widths) for width in entry.widths] for size in rows],
            dtype=np.int64,
        ),
        value_GW=values(entry),
        traffic_G=np.array(entry.traffic),
        fixed=bias_bytes(entry.stops[-1]),
    )

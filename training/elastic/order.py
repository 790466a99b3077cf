"""Which column blocks each group of items keeps longest, decided on validation.

What a block is worth is how much of the group's scores it carries. A score is a sum over blocks,
`sum of query_b . row_b`, so over all pairs of a validation query and an item of the group, blocks
have covariances, and these follow from second moments of queries and of rows alone. With a set of
blocks and the best scale for it, the share of the whole score's variance that is explained is

    (sum over kept b, all c of cov_bc)^2 / (sum over kept b, kept c of cov_bc * sum over all)

and blocks are taken greedily by that. A scale and a bias are what calibration learns for every
group and width; the common mean that the bias takes up is left out.

NDCG@10 with a block left out, the plain alternative, is noise here: one block of one group moves it
by less than some thousand cases can tell, most of all for groups of rare items.
"""

# U cases, E embedding width, G item groups, N column blocks

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from training.elastic.config import ElasticConfig, Orders

Floats = NDArray[np.float64]


def block_orders(elastic: ElasticConfig, table_VE: Tensor, queries_UE: Floats) -> Orders:
    """Return each group's order of blocks, the best first.

    `queries_UE` are the queries of validation cases, 0 where a narrow submodel has no column.
    `elastic` must have blocks. Padding's row does not count.
    """
    assert elastic.blocks is not None, "rows that are cut to prefixes have no blocks"
    moments = _moments(queries_UE)
    orders = []
    for start, stop in zip(elastic.starts, elastic.stops, strict=True):
        rows_NE = table_VE[max(1, start) : stop].detach().double().numpy()
        orders.append(greedy(_covariance(moments, _moments(rows_NE), elastic.blocks)))
    return tuple(orders)


def greedy(covariance_NN: Floats) -> tuple[int, ...]:
    """Return all blocks, each the one that explains most of the sum beside those before it.

    Of equal ones the first. Where nothing is left to explain, in their own order.
    """
    with_all_N = covariance_NN.sum(1)
    own_N = np.diagonal(covariance_NN)
    left = list(range(len(covariance_NN)))
    order: list[int] = []
    shared, inside = 0.0, 0.0
    beside_N = np.zeros(len(covariance_NN))
    while left:
        shared_L = shared + with_all_N[left]
        inside_L = inside + own_N[left] + 2 * beside_N[left]
        told = inside_L > 1e-30
        explained_L = np.zeros(len(left))
        # A set that would need a negative scale explains nothing: scales are exponentials.
        np.divide(np.maximum(shared_L, 0.0) ** 2, inside_L, out=explained_L, where=told)
        place = int(explained_L.argmax())
        shared, inside = float(shared_L[place]), float(inside_L[place])
        order.append(left.pop(place))
        beside_N += covariance_NN[:, order[-1]]
    return tuple(order)


def _moments(vectors_UE: Floats) -> tuple[Floats, Floats]:
    """Return (the mean, the second moments) of vectors."""
    return vectors_UE.mean(0), vectors_UE.T @ vectors_UE / len(vectors_UE)


def _covariance(queries: tuple[Floats, Floats], rows: tuple[Floats, Floats], blocks: int) -> Floats:
    """Return the covariances of the blocks' parts of a score, over all pairs."""
    size = len(queries[0]) // blocks
    mean_N = (queries[0] * rows[0]).reshape(blocks, size).sum(1)
    product_EE = queries[1] * rows[1]
    second_NN: Floats = product_EE.reshape(blocks, size, blocks, size).sum((1, 3))
    return second_NN - np.outer(mean_N, mean_N)

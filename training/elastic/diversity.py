"""What keeps the blocks of a row distinct: columns of different blocks should not say the same.

RULE pushes neighbouring blocks apart without bound, as far as its code could be read. Here the term
is a mean of squared correlations, so it lies in 0..1 and is 0 where no column of a block is, over
the items, a linear function of any one column of another. Cosines between blocks of one item would
not do: each block meets columns of its own in the query, so their coordinates have nothing to do
with one another, and so many blocks of few columns cannot be orthogonal.
"""

# V catalog rows with padding, M rows of a sample, E embedding width, N column blocks

from __future__ import annotations

import torch
from torch import Tensor

_ROWS = 1_024
"""Rows drawn at each step: by chance alone squared correlations are about a thousandth."""
_LEAST = 1e-12


def redundancy(rows_ME: Tensor, blocks: int) -> Tensor:
    """Return the mean squared correlation of columns of different blocks, a float32 in 0..1.

    Over the rows, and over all pairs of columns; differentiable. A column that is the same in
    every row is correlated with none.
    """
    width = rows_ME.shape[1]
    size = width // blocks
    centred_ME = rows_ME - rows_ME.mean(0)
    unit_ME = centred_ME * (centred_ME.square().sum(0) + _LEAST).rsqrt()
    squared_NN = (unit_ME.T @ unit_ME).square().view(blocks, size, blocks, size).sum((1, 3))
    return (squared_NN.sum() - squared_NN.trace()) / (width * (width - size))


def add_diversity(table_VE: Tensor, blocks: int, weight: float, draws: torch.Generator) -> None:
    """Add to the table's gradient that of `weight` times the redundancy of some of its rows.

    Rows are drawn from all but padding's; of a small catalog all are taken.
    """
    items = len(table_VE) - 1
    if items <= _ROWS:
        rows_ME = table_VE[1:]
    else:
        rows_ME = table_VE[torch.randint(1, items + 1, (_ROWS,), generator=draws)]
    torch.autograd.backward(weight * redundancy(rows_ME, blocks))

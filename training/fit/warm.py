"""Start a training from an earlier checkpoint: item rows follow their external ids."""

# V catalog rows with padding, E embedding width

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.catalog import Catalog
from models.config import SupernetConfig
from models.table.parameters import is_table, table_of, table_state
from models.table.rearrange import rearranged
from models.table.tokens import STATE, first_tokens
from training.data.sequences import Sequences

_NEIGHBOURS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmStart:
    """The supernet's state by name, in the rows of the new catalog, and how many were kept."""

    state: Mapping[str, Tensor]
    kept: int
    new: int
    gone: int


def warm_start(
    tensors: Mapping[str, Tensor],
    before: Catalog,
    now: Catalog,
    training: Sequences,
    *,
    was: SupernetConfig,
    becomes: SupernetConfig,
    seed: int = 0,
) -> WarmStart:
    """Return the weights `tensors` (`supernet.*`, rows of `before`) in the rows of `now`.

    The architectures `was` and `becomes` differ in items, table layout and head alone. What
    becomes of a row that comes to stand in another block: `models/table/rearrange.py`. Block
    tokens stay where there are as many blocks as before; others are `first_tokens`.

    Every tensor that is not an item's is taken as it is. A new item starts near the items that
    stand beside it in the training sequences, at their usual length; one that has no known
    neighbour starts near the average of the least popular quarter. Its bias is that quarter's.
    Everything is a copy.
    """
    state = {
        name.removeprefix("supernet."): tensor.detach().clone()
        for name, tensor in tensors.items()
        if name.startswith("supernet.")
    }
    rows = torch.tensor([0, *(before.item_id(external) or 0 for external in now.external_ids)])
    known = rows > 0
    table = table_of(state, was.table, was.emb_width)
    table_VE, bias_V = table.dense(), state["item_bias"]
    tail = max(1, len(before) // 4)
    new_VE = table_VE[rows]
    new_V = bias_V[rows]
    fresh = ~known
    fresh[0] = False
    if fresh.any():
        length = float(table_VE[1:].norm(dim=1).median())
        start_VE = table_VE[-tail:].mean(0).expand(len(rows), -1).clone()
        sums_VE, counts_V = _neighbours(new_VE, known, training)
        near = counts_V > 0
        start_VE[near] = sums_VE[near] / counts_V[near, None]
        generator = torch.Generator().manual_seed(seed)
        noise_VE = torch.randn(start_VE.shape, generator=generator) / start_VE.shape[1] ** 0.5
        start_VE = start_VE + 0.1 * length * noise_VE
        start_VE *= length / start_VE.norm(dim=1, keepdim=True).clamp(min=1e-6)
        new_VE[fresh] = start_VE[fresh]
        new_V[fresh] = bias_V[-tail:].mean()
    rows[fresh] = -1
    state = {name: tensor for name, tensor in state.items() if not is_table(name)}
    moved = rearranged(table, rows, new_VE, becomes.layout)
    state |= {**table_state(moved, blocked=becomes.table is not None), "item_bias": new_V}
    if was.tail_blocks != becomes.tail_blocks:
        state = {name: tensor for name, tensor in state.items() if name not in STATE}
        if becomes.two_level:
            state |= dict(zip(STATE, first_tokens(moved, new_V), strict=True))
    kept = int(known.sum())
    return WarmStart(state=state, kept=kept, new=int(fresh.sum()), gone=len(before) - kept)


def _neighbours(table_VE: Tensor, known: Tensor, training: Sequences) -> tuple[Tensor, Tensor]:
    """Return, per row, the sum of known neighbours' embeddings and how many there were."""
    sums_VE, counts_V = torch.zeros_like(table_VE), torch.zeros(len(table_VE))
    items = torch.from_numpy(training.items)
    users = np.repeat(np.arange(len(training)), training.lengths())
    for distance in range(1, _NEIGHBOURS + 1):
        together = torch.from_numpy(users[distance:] == users[:-distance])
        for one, other in (
            (items[:-distance], items[distance:]),
            (items[distance:], items[:-distance]),
        ):
            pairs = together & ~known[one] & known[other]
            sums_VE.index_add_(0, one[pairs], table_VE[other[pairs]])
            counts_V.index_add_(0, one[pairs], torch.ones(int(pairs.sum())))
    return sums_VE, counts_V

"""The two-level softmax's cross-entropy and distillation, level by level, as CpRec trains it.

Every position meets the first block's items and the tail blocks' tokens; a tail block's items
meet only the positions whose target is one of them. No negatives are drawn: few logits for most
positions is what two levels are for. A student learns from the teacher at each level: which block,
and which item within the target's block.
"""

# P positions, C scored columns, E embedding width, V catalog rows, T tail blocks, M positions of a
# level

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from models.supernet import Supernet
from training.fit.head_loss import Member, add_gradients, subtract_target
from training.fit.scored_table import ScoredTable, accumulate


def two_level_backward(
    supernet: Supernet,
    members: Sequence[Member],
    targets_P: Tensor,
    *,
    distillation: float,
    chunk_cells: int,
) -> list[float]:
    """Add every gradient of the joint loss to the supernet; return mean cross-entropies.

    Members are those of `head_backward`, all with the supernet's own table.
    """
    table = supernet.item_table
    stops = torch.tensor([part.stop for part in table.parts])
    blocks_P = torch.searchsorted(stops, targets_P, right=True)
    first = table.parts[0].stop
    queries = [member.query_PE.detach() for member in members]
    grads = [torch.zeros_like(query) for query in queries]
    losses = [0.0] * len(members)
    levels = [_Level(supernet, 0, chunk_cells)]
    places_P = torch.where(blocks_P == 0, targets_P, first + blocks_P - 1)
    levels[0].run(torch.arange(len(targets_P)), places_P, queries, grads, losses, distillation)
    for place, part in enumerate(table.parts[1:], start=1):
        positions_M = (blocks_P == place).nonzero().squeeze(1)
        if len(positions_M):
            level = _Level(supernet, place, chunk_cells)
            places_M = targets_P[positions_M] - part.start
            level.run(positions_M, places_M, queries, grads, losses, distillation)
            levels.append(level)
    add_gradients(members, grads, [one for level in levels for one in level.accumulate()])
    return [loss / len(query) for loss, query in zip(losses, queries, strict=True)]


class _Level:
    """One softmax: over a block's items and, in the first, the tail blocks' tokens."""

    def __init__(self, supernet: Supernet, place: int, chunk_cells: int) -> None:
        table = supernet.item_table
        part = table.parts[place]
        self._rows_N = torch.arange(part.start, part.stop)
        self._table = ScoredTable(table, self._rows_N)
        self._item_bias_V = supernet.item_bias
        self._bias_N = supernet.item_bias.detach()[part.start : part.stop]
        self._grad_N = torch.zeros_like(self._bias_N)
        self._tokens = supernet.tokens if place == 0 else None
        if self._tokens is not None:
            self._vectors_TE = self._tokens.tokens_TE.detach()
            self._grad_TE = torch.zeros_like(self._vectors_TE)
            self._grad_T = torch.zeros(len(self._vectors_TE))
        self._chunk_cells = chunk_cells

    def run(
        self,
        positions_M: Tensor,
        places_M: Tensor,
        queries: Sequence[Tensor],
        grads: Sequence[Tensor],
        losses: list[float],
        distillation: float,
    ) -> None:
        """Add this level's losses, and its gradients to the queries' and to its own.

        `positions_M` ascend; `places_M` are their targets' columns of this level.
        """
        step = max(1, self._chunk_cells // len(self._rows_N))
        for start in range(0, len(positions_M), step):
            chunk, place = positions_M[start : start + step], places_M[start : start + step, None]
            teacher: Tensor | None = None
            for index, query_PE in enumerate(queries):
                rows = int(torch.searchsorted(chunk, len(query_PE)))
                if not rows:
                    continue
                query = query_PE.index_select(0, chunk[:rows])
                shares = torch.softmax(self._scores(query), 1)
                found = shares.gather(1, place[:rows]).clamp(min=1e-30)
                losses[index] -= float(torch.log(found).sum())
                if index == 0:
                    teacher = shares if len(queries) == 1 else shares.clone()
                    subtract_target(shares, place, 1.0)
                else:
                    assert teacher is not None
                    shares.sub_(teacher[:rows], alpha=distillation)
                    subtract_target(shares, place[:rows], 1.0 - distillation)
                grad = torch.zeros_like(query)
                self._backward(shares.mul_(1 / len(query_PE)), query, grad)
                grads[index].index_add_(0, chunk[:rows], grad)

    def accumulate(self) -> list[tuple[Tensor, Tensor]]:
        """Add the gradients to the parameters; return those of tensors computed from others."""
        rest = [
            *self._table.accumulate(),
            *accumulate(self._item_bias_V, self._rows_N, self._grad_N),
        ]
        if self._tokens is not None:
            rest += accumulate(self._tokens.tokens_TE, None, self._grad_TE)
            rest += accumulate(self._tokens.bias_T, None, self._grad_T)
        return rest

    def _scores(self, query: Tensor) -> Tensor:
        scores = self._table.scores(query, self._bias_N)
        if self._tokens is None:
            return scores
        scores[:, 0] = -torch.inf  # padding
        tokens = self._tokens.slice(query.shape[1])
        return torch.cat([scores, tokens.scores(query).detach()], 1)

    def _backward(self, gradient: Tensor, query: Tensor, grad: Tensor) -> None:
        items = gradient[:, : len(self._rows_N)]
        self._table.backward(items, query, grad)
        self._grad_N += items.sum(0)
        if self._tokens is None:
            return
        columns, own = query.shape[1], gradient[:, len(self._rows_N) :]
        grad.addmm_(own, self._vectors_TE[:, :columns])
        self._grad_TE[:, :columns].addmm_(own.T, query)
        self._grad_T += own.sum(0)

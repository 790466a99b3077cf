"""Softmax cross-entropy and distillation of several submodels at once, without keeping logits.

The logits of a batch are its largest temporary by far. They are made chunk by chunk, turned
into their own gradient in place, and forgotten; what comes back are the losses and the gradients
of the query vectors, so the bodies' backward passes run as usual. The teacher's distribution of
a chunk is shared by all students of that chunk.
"""

# P positions, C scored columns, E embedding width, V catalog rows

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.network import NetworkWeights
from models.supernet import Supernet
from models.table.table import ItemTable
from training.fit.scored_table import ScoredTable, accumulate


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which catalog rows are scored, and how sampling is corrected.

    items_C int64 ascending; correction_C float32 is added to every score but the target's own:
    -log(inclusion probability) for a drawn negative, -inf for a row that is there only because
    it is somebody's target; place_V int64 maps a row to its column, -1 when it is not scored.
    """

    items_C: Tensor
    correction_C: Tensor
    place_V: Tensor


def all_columns(num_items: int) -> Columns:
    """Score the whole catalog; padding's column is excluded by its correction."""
    correction = torch.zeros(num_items + 1)
    correction[0] = -torch.inf
    rows = torch.arange(num_items + 1)
    return Columns(items_C=rows, correction_C=correction, place_V=rows)


def drawn_columns(targets_P: Tensor, inclusion_V: Tensor, generator: torch.Generator) -> Columns:
    """Score independently drawn negatives (row v with probability `inclusion_V[v]`) and targets.

    With the logQ correction the expected partition function equals the full one, up to the
    target's own term, which is always there uncorrected.
    """
    drawn_V = torch.rand(inclusion_V.shape, generator=generator) < inclusion_V
    scored_V = drawn_V.clone()
    scored_V[targets_P] = True
    items_C = scored_V.nonzero().squeeze(1)
    correction_C = torch.where(
        drawn_V[items_C], -torch.log(inclusion_V[items_C].clamp(min=1e-12)), -torch.inf
    )
    place_V = torch.full((len(inclusion_V),), -1)
    place_V[items_C] = torch.arange(len(items_C))
    return Columns(items_C=items_C, correction_C=correction_C, place_V=place_V)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEntries:
    """Unsummed evidence of the transition memory, ordered by position: see TransitionMemory."""

    rows_N: Tensor
    items_N: Tensor
    weights_N: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One network's part in a step: its weights and query vectors of the leading positions.

    Weights with another item bias than the supernet's own are scored with their own table, too;
    all others share the supernet's.
    """

    weights: NetworkWeights
    query_PE: Tensor


def head_backward(
    supernet: Supernet,
    members: Sequence[Member],
    targets_P: Tensor,
    columns: Columns,
    memory: MemoryEntries | None,
    *,
    distillation: float,
    chunk_cells: int,
) -> list[float]:
    """Add every gradient of the joint loss to the supernet; return mean cross-entropies.

    `members[0]` is the teacher and covers all P positions; each other member covers the first
    len(query_PE) of them. Each member's loss is averaged over its own positions. Gradients of
    table, item bias and memory gains are accumulated directly, the bodies' through autograd.
    """
    teacher_positions = len(targets_P)
    num_columns = len(columns.items_C)
    shared = _Output(supernet.item_table, supernet.item_bias, columns)
    outputs = [
        shared
        if member.weights.item_bias_V is supernet.item_bias
        else _Output(member.weights.table, member.weights.item_bias_V, columns)
        for member in members
    ]
    queries = [member.query_PE.detach() for member in members]
    grads = [torch.zeros_like(query) for query in queries]
    gains = [float(member.weights.memory_gain.detach()) for member in members]
    grad_gains = [0.0] * len(members)
    losses = [0.0] * len(members)
    places_P = columns.place_V[targets_P]
    step = max(1, chunk_cells // max(1, num_columns))
    for start in range(0, teacher_positions, step):
        stop = min(start + step, teacher_positions)
        place = places_P[start:stop, None]
        evidence = _evidence(memory, columns, start, stop)
        teacher: Tensor | None = None
        for index in range(len(members)):
            rows = min(stop, len(queries[index])) - start
            if rows <= 0:
                continue
            query = queries[index][start : start + rows]
            scores = outputs[index].scores(query)
            if evidence is not None:
                scores.add_(evidence[:rows], alpha=gains[index])
            own = scores.gather(1, place[:rows])
            scores.add_(columns.correction_C)
            scores.scatter_(1, place[:rows], own)
            shares = torch.softmax(scores, dim=1, out=scores)
            losses[index] -= float(torch.log(shares.gather(1, place[:rows]).clamp(min=1e-30)).sum())
            if index == 0:
                teacher = shares if len(members) == 1 else shares.clone()
                subtract_target(shares, place, 1.0)
            else:
                assert teacher is not None
                shares.sub_(teacher[:rows], alpha=distillation)
                subtract_target(shares, place[:rows], 1.0 - distillation)
            gradient = shares.mul_(1 / len(queries[index]))
            outputs[index].backward(gradient, query, grads[index][start : start + rows])
            if evidence is not None:
                grad_gains[index] += float(
                    torch.dot(gradient.view(-1), evidence[:rows].reshape(-1))
                )
    others = [pair for output in dict.fromkeys((shared, *outputs)) for pair in output.accumulate()]
    if memory is not None:
        others += [
            (member.weights.memory_gain, torch.tensor(value))
            for member, value in zip(members, grad_gains, strict=True)
        ]
    add_gradients(members, grads, others)
    return [loss / len(query) for loss, query in zip(losses, queries, strict=True)]


class _Output:
    """A table and its item bias at the scored columns, and their gradients."""

    def __init__(self, table: ItemTable, item_bias_V: Tensor, columns: Columns) -> None:
        self._table = ScoredTable(table, columns.items_C)
        self._item_bias_V = item_bias_V
        whole = len(columns.items_C) == len(item_bias_V)
        self._rows = None if whole else columns.items_C
        self._bias_C = item_bias_V.detach().index_select(0, columns.items_C)
        self._grad_C = torch.zeros_like(self._bias_C)

    def scores(self, query_PE: Tensor) -> Tensor:
        return self._table.scores(query_PE, self._bias_C)

    def backward(self, gradient_PC: Tensor, query_PE: Tensor, grad_PE: Tensor) -> None:
        self._table.backward(gradient_PC, query_PE, grad_PE)
        self._grad_C += gradient_PC.sum(0)

    def accumulate(self) -> list[tuple[Tensor, Tensor]]:
        """Add the gradients to the parameters; return those of tensors computed from others."""
        return [
            *self._table.accumulate(),
            *accumulate(self._item_bias_V, self._rows, self._grad_C),
        ]


def _evidence(
    memory: MemoryEntries | None, columns: Columns, start: int, stop: int
) -> Tensor | None:
    """Return log(1 + summed evidence) of positions start..stop as a dense (P, C) chunk."""
    if memory is None:
        return None
    first, last = torch.searchsorted(memory.rows_N, torch.tensor([start, stop])).tolist()
    place = columns.place_V[memory.items_N[first:last]]
    known = place >= 0
    keys = (memory.rows_N[first:last] - start) * len(columns.items_C) + place
    weights = memory.weights_N[first:last]
    if len(columns.place_V) != len(columns.items_C):
        keys, weights = keys[known], weights[known]
    dense = torch.zeros((stop - start) * len(columns.items_C))
    dense.index_add_(0, keys, weights)
    return dense.log1p_().view(stop - start, len(columns.items_C))


def add_gradients(
    members: Sequence[Member], grads: Sequence[Tensor], others: Sequence[tuple[Tensor, Tensor]]
) -> None:
    """Run the bodies' backward passes from the queries' gradients, and those of `others`."""
    roots = [member.query_PE for member in members] + [tensor for tensor, _ in others]
    torch.autograd.backward(roots, [*grads, *(gradient for _, gradient in others)])


def subtract_target(shares: Tensor, place: Tensor, weight: float) -> None:
    """Take `weight` from each row's share at `place`, (P, 1) int64, in place."""
    # One cell a row, so plain indexing is exact, and far faster than scatter_add_.
    shares[torch.arange(len(place)), place[:, 0]] -= weight

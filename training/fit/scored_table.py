"""The rows of the item table that a step scores: their scores, and the gradients of them.

Row blocks are scored in their own width: a block of rank 4 costs a sixteenth of 64 columns, in the
forward pass and in both products of the backward pass.
"""

# P positions, C scored columns, E embedding width, R numbers a row of a part has

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.table.table import ItemTable, TablePart


@dataclass(frozen=True, slots=True)
class _Scored:
    """The scored rows of one part, columns `first` to `last`, and where their gradients grow."""

    part: TablePart
    first: int
    last: int
    places_C: Tensor | None
    """Rows within the part; None when all of them are scored."""
    rows_CR: Tensor
    grad_CR: Tensor
    projection_RE: Tensor | None
    grad_RE: Tensor | None


class ScoredTable:
    """Scores of `items_C` (int64 ascending, distinct) under queries of any width up to E.

    Gradients are summed here until `accumulate` hands them to the table's own tensors.
    """

    def __init__(self, table: ItemTable, items_C: Tensor) -> None:
        self._columns = len(items_C)
        self._parts: list[_Scored] = []
        for part in table.parts:
            first, last = torch.searchsorted(
                items_C, torch.tensor([part.start, part.stop])
            ).tolist()
            if first == last:
                continue
            rows_CR = part.rows_NR.detach()
            places_C = None
            if last - first < len(rows_CR):
                places_C = items_C[first:last] - part.start
                rows_CR = rows_CR.index_select(0, places_C)
            projection = None if part.projection_RE is None else part.projection_RE.detach()
            self._parts.append(
                _Scored(
                    part=part,
                    first=first,
                    last=last,
                    places_C=places_C,
                    rows_CR=rows_CR,
                    grad_CR=torch.zeros_like(rows_CR),
                    projection_RE=projection,
                    grad_RE=None if projection is None else torch.zeros_like(projection),
                )
            )

    def scores(self, query_PE: Tensor, bias_C: Tensor) -> Tensor:
        """Return scores_PC float32 of queries without autograd, bias added."""
        scores_PC = torch.empty(len(query_PE), self._columns)
        for one in self._parts:
            inner_PR, width = _inner(one, query_PE)
            torch.addmm(
                bias_C[one.first : one.last],
                inner_PR,
                one.rows_CR[:, :width].T,
                out=scores_PC[:, one.first : one.last],
            )
        return scores_PC

    def backward(self, gradient_PC: Tensor, query_PE: Tensor, grad_PE: Tensor) -> None:
        """Add the scores' gradient to the queries' (`grad_PE`, in place) and to the table's."""
        columns = query_PE.shape[1]
        for one in self._parts:
            inner_PR, width = _inner(one, query_PE)
            own_PC = gradient_PC[:, one.first : one.last]
            rows_CR = one.rows_CR[:, :width]
            one.grad_CR[:, :width].addmm_(own_PC.T, inner_PR)
            if one.projection_RE is None:
                if one.part.columns_R is None:
                    grad_PE[:, :width].addmm_(own_PC, rows_CR)
                else:
                    grad_PE.index_add_(1, one.part.columns_R[:width], own_PC @ rows_CR)
                continue
            assert one.grad_RE is not None
            grad_PR = own_PC @ rows_CR
            grad_PE.addmm_(grad_PR, one.projection_RE[:, :columns])
            one.grad_RE[:, :columns].addmm_(grad_PR.T, query_PE)

    def accumulate(self) -> list[tuple[Tensor, Tensor]]:
        """Add what was summed to the gradients of the table's parameters.

        Returned are tensors that are computed from parameters, with their gradients: to be handed
        to one backward pass together, since they may share what they are computed from.
        """
        rest = []
        for one in self._parts:
            rest += accumulate(one.part.rows_NR, one.places_C, one.grad_CR)
            if one.part.projection_RE is not None:
                assert one.grad_RE is not None
                rest += accumulate(one.part.projection_RE, None, one.grad_RE)
        return rest


def accumulate(
    tensor: Tensor, rows: Tensor | None, gradient: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """Add `gradient` to that of a parameter, of all its rows (None) or of distinct `rows`.

    A tensor that is computed from others is returned with its whole gradient instead.
    """
    if not tensor.is_leaf:
        if rows is not None:
            gradient = torch.zeros_like(tensor).index_add_(0, rows, gradient)
        return [(tensor, gradient)]
    if tensor.grad is None:
        tensor.grad = torch.zeros_like(tensor)
    if rows is None:
        tensor.grad += gradient
    else:
        tensor.grad.index_add_(0, rows, gradient)
    return []


def _inner(one: _Scored, query_PE: Tensor) -> tuple[Tensor, int]:
    """Return (what the part's rows are multiplied by, how many of their numbers count)."""
    if one.projection_RE is not None:
        return query_PE @ one.projection_RE[:, : query_PE.shape[1]].T, one.rows_CR.shape[1]
    width = one.part.within(query_PE.shape[1])
    if one.part.columns_R is not None:
        return query_PE.index_select(1, one.part.columns_R[:width]), width
    return query_PE[:, :width], width

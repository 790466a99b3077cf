"""The item table as everything reads it: ids to embeddings, queries to scores, at any width.

Training runs it on parameters and through autograd, serving on contiguous arrays; a slice of
fewer columns is a table too. What is scored is what is embedded (the table is tied): a block's
scores are `(query . projection^T) . rows^T`, and its embeddings `rows . projection`.
"""

# B batch, M ids, N rows of a part, R numbers a row of a part has, E embedding width, V catalog rows

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from models.table.layout import TableBlock, TableLayout

_ROWS_AT_ONCE = 65_536


@dataclass(frozen=True, slots=True)
class TablePart:
    """One row block, float32. `rows_NR[n]` is catalog row `start + n`.

    Without a projection the R numbers are columns of the embedding, R <= E: those of `columns_R`
    (int64, ascending), or the leading ones where that is None.
    """

    start: int
    rows_NR: Tensor
    projection_RE: Tensor | None = None
    columns_R: Tensor | None = None

    @property
    def stop(self) -> int:
        """The first catalog row after the part."""
        return self.start + len(self.rows_NR)

    @property
    def width(self) -> int:
        """R, the numbers of a row."""
        return self.rows_NR.shape[1]

    def within(self, columns: int) -> int:
        """Return how many of a row's numbers lie in the leading `columns` of the embedding.

        With a projection all of them do.
        """
        if self.projection_RE is not None:
            return self.width
        if self.columns_R is None:
            return min(self.width, columns)
        return int(torch.searchsorted(self.columns_R, columns))

    def query(self, query_BE: Tensor) -> Tensor:
        """Return query_BR: what the part's rows are multiplied by."""
        if self.projection_RE is not None:
            return query_BE @ self.projection_RE.T
        if self.columns_R is not None:
            return query_BE.index_select(1, self.columns_R)
        return query_BE if query_BE.shape[1] == self.width else query_BE[:, : self.width]

    def embeddings(self, rows_MR: Tensor, emb_width: int) -> Tensor:
        """Return the (..., emb_width) embeddings of rows of this part, (..., R)."""
        if self.projection_RE is not None:
            return rows_MR @ self.projection_RE
        if self.columns_R is not None:
            out_ME = rows_MR.new_zeros(*rows_MR.shape[:-1], emb_width)
            return out_ME.index_copy(-1, self.columns_R, rows_MR)
        if self.width == emb_width:
            return rows_MR
        return F.pad(rows_MR, (0, emb_width - self.width))

    def slice(self, columns: int) -> TablePart:
        """Return the part of an embedding cut to its leading `columns`, as views.

        Where none of the part's columns is among them, its rows hold no numbers.
        """
        if self.projection_RE is not None:
            return TablePart(self.start, self.rows_NR, self.projection_RE[:, :columns])
        own = self.within(columns)
        if own == self.width:
            return self
        index_R = None if self.columns_R is None else self.columns_R[:own]
        return TablePart(self.start, self.rows_NR[:, :own], columns_R=index_R)


@dataclass(frozen=True, slots=True)
class ItemTable:
    """Parts by rising rows, without a gap from row 0 (padding, zero) on; `emb_width` is E."""

    parts: tuple[TablePart, ...]
    emb_width: int

    def __len__(self) -> int:
        """Rows, padding's included."""
        return self.parts[-1].stop

    @property
    def is_dense(self) -> bool:
        """Whether one part holds every column of every row."""
        return (
            len(self.parts) == 1
            and self.parts[0].projection_RE is None
            and self.parts[0].columns_R is None
            and self.parts[0].width == self.emb_width
        )

    @property
    def num_bytes(self) -> int:
        """Bytes of rows and projections."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors())

    def tensors(self) -> Iterator[Tensor]:
        """Yield every part's rows and projection."""
        for part in self.parts:
            yield part.rows_NR
            if part.projection_RE is not None:
                yield part.projection_RE

    def embed(self, ids: Tensor) -> Tensor:
        """Return the embeddings of int64 `ids`, (*ids.shape, E); differentiable."""
        if len(self.parts) == 1:
            return self.parts[0].embeddings(F.embedding(ids, self.parts[0].rows_NR), self.emb_width)
        flat_M = ids.reshape(-1)
        out_ME = self.parts[0].rows_NR.new_zeros(len(flat_M), self.emb_width)
        for part in self.parts:
            places = ((flat_M >= part.start) & (flat_M < part.stop)).nonzero().squeeze(1)
            rows_NR = F.embedding(flat_M[places] - part.start, part.rows_NR)
            out_ME.index_copy_(0, places, part.embeddings(rows_NR, self.emb_width))
        return out_ME.view(*ids.shape, self.emb_width)

    def scores(self, query_BE: Tensor, bias_V: Tensor) -> Tensor:
        """Return scores_BV float32 of every row: `query . embedding + bias`; differentiable."""
        by_part = [
            torch.addmm(bias_V[part.start : part.stop], part.query(query_BE), part.rows_NR.T)
            for part in self.parts
        ]
        return by_part[0] if len(by_part) == 1 else torch.cat(by_part, 1)

    def score_into(self, scores_BV: Tensor, query_BE: Tensor, bias_V: Tensor) -> None:
        """Write `scores` into the leading columns of `scores_BV`, without autograd."""
        for part in self.parts:
            torch.addmm(
                bias_V[part.start : part.stop],
                part.query(query_BE),
                part.rows_NR.T,
                out=scores_BV[:, part.start : part.stop],
            )

    def products(self, query_E: Tensor) -> Tensor:
        """Return products_V float32 of one query with every row's embedding."""
        return torch.cat([part.rows_NR @ part.query(query_E[None])[0] for part in self.parts])

    def norms(self) -> Tensor:
        """Return norms_V float32: the length of every row's embedding."""
        return torch.cat([chunk_NE.norm(dim=1) for chunk_NE in self._chunks()])

    def dense(self) -> Tensor:
        """Return table_VE: every embedding. The table's own memory where it is stored whole."""
        if self.is_dense:
            return self.parts[0].rows_NR
        return torch.cat(list(self._chunks()))

    def slice(self, columns: int) -> ItemTable:
        """Return the table of the leading `columns`, as differentiable views."""
        if columns == self.emb_width:
            return self
        return ItemTable(tuple(part.slice(columns) for part in self.parts), columns)

    def cut(self, layout: TableLayout) -> ItemTable:
        """Return the columns that a layout keeps of this table, differentiable.

        Leading columns are views, others copies. ValueError when the table is not stored whole, or
        the layout is projected or of another size.
        """
        if not self.is_dense or layout.projected:
            raise ValueError("only a table that is stored whole can be cut, and only to prefixes")
        layout.check(len(self), self.emb_width)
        rows_VE = self.parts[0].rows_NR
        return ItemTable(
            tuple(
                TablePart(
                    start,
                    kept_columns(rows_VE[start : block.stop], block),
                    columns_R=columns_of(block),
                )
                for start, block in zip(layout.starts, layout.blocks, strict=True)
            ),
            self.emb_width,
        )

    def detach(self) -> ItemTable:
        """Return the same memory without autograd."""
        return self._map(Tensor.detach)

    def contiguous(self) -> ItemTable:
        """Return the table with every tensor contiguous; those that are so already are shared."""
        return self._map(Tensor.contiguous)

    def _map(self, change: Callable[[Tensor], Tensor]) -> ItemTable:
        return ItemTable(
            tuple(
                TablePart(
                    part.start,
                    change(part.rows_NR),
                    None if part.projection_RE is None else change(part.projection_RE),
                    part.columns_R,
                )
                for part in self.parts
            ),
            self.emb_width,
        )

    def _chunks(self) -> Iterator[Tensor]:
        for part in self.parts:
            for rows_NR in torch.split(part.rows_NR, _ROWS_AT_ONCE):
                yield part.embeddings(rows_NR, self.emb_width)


def columns_of(block: TableBlock) -> Tensor | None:
    """Return `columns_R` of a block's part: int64 on the CPU, None for leading columns."""
    if block.columns is None:
        return None
    return torch.tensor(block.columns, dtype=torch.int64, device="cpu")


def kept_columns(rows_NE: Tensor, block: TableBlock) -> Tensor:
    """Return the columns of whole rows that a block without projection keeps: rows_NR.

    A view of leading columns, a copy of others.
    """
    columns_R = columns_of(block)
    return rows_NE[:, : block.width] if columns_R is None else rows_NE.index_select(1, columns_R)


def whole_table(table_VE: Tensor) -> ItemTable:
    """Return the table that is stored whole in `table_VE`."""
    return ItemTable((TablePart(0, table_VE),), table_VE.shape[1])

"""Exact top-k over the whole catalog, part by part of the item table.

Parts stand by falling popularity and are visited in that order, for a batch at once; a query skips
a part none of whose rows can still be among its k best. In a part the 4-bit scan or a plain product
finds every row that could be, and all are scored alike (`exact.py`), so the answer is the
brute-force answer bit for bit, whatever was skipped.
"""

# B queries, V catalog rows with padding, E embedding width, N rows of a part

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.search.contract import Found, Wanted
from models.search.exact import Floats, Rows, best
from models.search.part import PartSearch
from models.search.rows import handled, to_check
from models.search.task import Task
from models.table.table import ItemTable

INDEX_FROM_ROWS = 100_000
"""Below this a plain product is as fast for batches, and no compiled scan is needed."""


class CatalogSearch:
    """Answers queries of the given widths over one item table; for one thread at a time.

    `table` float32, its rows contiguous, row 0 padding; `bias_V` float32. A query of width E' < E
    is scored with the leading E' columns. Both are read where they lie: neither may change. An
    index of about R / 2 + 4 bytes a row is built for every part of `index_from` rows and more, R
    being the part's numbers a row. ValueError when the table is not finite or not float32, or a
    width is not one of its columns.
    """

    def __init__(
        self,
        table: ItemTable,
        bias_V: Tensor,
        widths: Sequence[int],
        *,
        index_from: int = INDEX_FROM_ROWS,
    ) -> None:
        for tensor in (*table.tensors(), bias_V):
            if tensor.dtype != torch.float32:
                raise ValueError(f"a search reads float32; table or bias is {tensor.dtype}")
            if not all(np.isfinite(float(bound)) for bound in tensor.aminmax()):
                raise ValueError("the item table or bias holds a value that is not finite")
        if not widths or not 1 <= min(widths) <= max(widths) <= table.emb_width:
            raise ValueError(
                f"widths {tuple(sorted(set(widths)))} are not within the table's "
                f"1..{table.emb_width} columns"
            )
        bias_V = bias_V.detach()
        self._parts = [
            PartSearch(part, bias_V[part.start : part.stop], widths, index_from=index_from)
            for part in table.detach().parts
        ]

    @property
    def index_bytes(self) -> int:
        """Bytes the search holds beside the table; 0 for a small catalog."""
        return sum(part.index_bytes for part in self._parts)

    def top(self, query_BE: Tensor, wanted: Sequence[Wanted]) -> list[Found]:
        """Return the best rows of each query. `query_BE` float32; ValueError if not finite."""
        queries = query_BE.detach().numpy()
        if not np.isfinite(queries).all():
            raise ValueError("a query vector is not finite")
        asked = [_Asked(one) for one in wanted]
        for part in self._parts:
            query_BR, spent = part.queries(queries)
            open_places: list[int] = []
            tasks: list[Task] = []
            masks: dict[int, NDArray[np.bool_]] = {}
            for place, (query_R, one) in enumerate(zip(query_BR, asked, strict=True)):
                one.multiply_adds += spent
                task = one.task(part, masks)
                if one.only_checks or one.is_beyond(part, query_R):
                    if len(task.rows):
                        one.add(part.check(query_R, task), part.start)
                else:
                    open_places.append(place)
                    tasks.append(task)
            if tasks:
                found = part.top(query_BR[open_places], tasks)
                for place, answer in zip(open_places, found, strict=True):
                    asked[place].add(answer, part.start)
        return [one.found() for one in asked]


class _Asked:
    """One request on its way through the parts, and the best that they had so far."""

    def __init__(self, wanted: Wanted) -> None:
        self._k = wanted.k
        self._rows, self._bonus = to_check(wanted)
        self._handled = handled(wanted)
        self._allowed = wanted.allowed_V
        self.only_checks = wanted.candidates is not None
        self._best: list[tuple[list[int], list[float]]] = []
        self._bar = -np.inf
        self._scanned = self._checked = self.multiply_adds = 0

    def task(self, part: PartSearch, masks: dict[int, NDArray[np.bool_]]) -> Task:
        """Return what is asked of a part, in its own rows; equal masks stay one object."""
        rows, bonus = _within(self._rows, part, self._bonus)
        left_out, _ = _within(self._handled, part)
        mask = self._allowed
        if mask is not None:
            mask = masks.setdefault(id(mask), mask[part.start : part.stop])
        return Task(self._k, rows, bonus, left_out, mask)

    def is_beyond(self, part: PartSearch, query_R: Floats) -> bool:
        """Whether nothing of the part can join the best, own rows aside.

        An equal score cannot: the rows there are larger than all that was seen.
        """
        return self._bar > -np.inf and part.bound(query_R) <= self._bar

    def add(self, found: Found, start: int) -> None:
        """Take over what a part had."""
        self._scanned += found.scanned
        self._checked += found.checked
        self.multiply_adds += found.multiply_adds
        self._best.append(([start + row for row in found.rows], found.scores))
        if sum(len(rows) for rows, _ in self._best) >= self._k:
            rows, scores = self._merged()
            self._best = [(rows, scores)]
            self._bar = scores[-1]

    def found(self) -> Found:
        """Return the answer."""
        rows, scores = self._best[0] if len(self._best) == 1 else self._merged()
        return Found(
            rows=rows,
            scores=scores,
            scanned=self._scanned,
            checked=self._checked,
            multiply_adds=self.multiply_adds,
        )

    def _merged(self) -> tuple[list[int], list[float]]:
        rows = [row for some, _ in self._best for row in some]
        scores = [score for _, some in self._best for score in some]
        return best(np.array(scores, dtype=np.float32), np.array(rows, dtype=np.int64), self._k)


def _within(rows: Rows, part: PartSearch, beside: Floats | None = None) -> tuple[Rows, Floats]:
    """Return those of ascending `rows` that are the part's, as its own, and what stands beside."""
    first, last = np.searchsorted(rows, (part.start, part.stop))
    some = np.empty(0, dtype=np.float32) if beside is None else beside[first:last]
    return rows[first:last] - part.start, some

"""Exact top-k over the whole catalog: the 4-bit scan for large ones, a plain product for small.

Both find every row that could be among the k best and score those alike (`exact.py`), so the
answer is the brute-force answer bit for bit, and the same on either path.
"""

# B queries, V catalog rows with padding, E embedding width

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from models.search.contract import Found, Wanted
from models.search.exact import Floats, Rows, best, exact_scores
from models.search.plain import product, product_error, shortlist
from models.search.rows import handled, to_check
from models.search.task import Task

if TYPE_CHECKING:
    from models.search.scan import NibbleScan

INDEX_FROM_ROWS = 100_000
"""Below this a plain product is as fast for batches, and no compiled scan is needed."""


class CatalogSearch:
    """Answers queries of the given widths over one item table; for one thread at a time.

    `table_VE` float32 contiguous, row 0 padding; `bias_V` float32. A query of width E' < E is
    scored with the leading E' columns. Both are read where they lie: neither may change. An index
    of about E / 2 + 4 bytes a row is built when V reaches `index_from`. ValueError when the table
    is not finite or not float32.
    """

    def __init__(
        self,
        table_VE: Tensor,
        bias_V: Tensor,
        widths: Sequence[int],
        *,
        index_from: int = INDEX_FROM_ROWS,
    ) -> None:
        self._table_VE = table_VE.detach().contiguous()
        self._bias_V = bias_V.detach().contiguous()
        self._table: Floats = self._table_VE.numpy()
        self._bias: Floats = self._bias_V.numpy()
        if self._table.dtype != np.float32 or self._bias.dtype != np.float32:
            raise ValueError(
                f"a search reads float32; the table is {table_VE.dtype}, the bias {bias_V.dtype}"
            )
        bounds = (*self._table_VE.aminmax(), *self._bias_V.aminmax())
        if not all(np.isfinite(float(bound)) for bound in bounds):
            raise ValueError("the item table or bias holds a value that is not finite")
        self._bias_max = float(np.abs(self._bias).max())
        self._scan: NibbleScan | None = None
        self._norm_max: dict[int, float] = {}
        if len(self._table) >= index_from:
            from models.search.scan import NibbleScan

            self._scan = NibbleScan(self._table, self._bias, widths)

    @property
    def index_bytes(self) -> int:
        """Bytes the search holds beside the table; 0 for a small catalog."""
        return 0 if self._scan is None else self._scan.num_bytes

    def top(self, query_BE: Tensor, wanted: Sequence[Wanted]) -> list[Found]:
        """Return the best rows of each query. `query_BE` float32; ValueError if not finite."""
        queries = query_BE.detach().numpy()
        if not np.isfinite(queries).all():
            raise ValueError("a query vector is not finite")
        answers: dict[int, Found] = {}
        scanned: dict[int, Task] = {}
        product_of: list[int] = []
        for place, (query_E, one) in enumerate(zip(queries, wanted, strict=True)):
            rows, bonus = to_check(one)
            if one.candidates is not None:
                answers[place] = self._found(query_E, rows, bonus, one.k, scanned=0)
            elif self._scan is not None and self._scan.covers(query_E):
                scanned[place] = Task(one.k, rows, bonus, handled(one), one.allowed_V)
            else:
                product_of.append(place)
        if self._scan is not None and scanned:
            found = self._scan.top(queries[list(scanned)], list(scanned.values()))
            answers.update(zip(scanned, found, strict=True))
        if product_of:
            scores_BV = product(self._table_VE, self._bias_V, query_BE[product_of])
            for place, scores_V in zip(product_of, scores_BV, strict=True):
                answers[place] = self._plain(queries[place], scores_V, wanted[place])
        return [answers[place] for place in range(len(wanted))]

    def _plain(self, query_E: Floats, scores_V: Tensor, one: Wanted) -> Found:
        rows, bonus = to_check(one)
        error = product_error(
            len(query_E),
            float(np.linalg.norm(query_E.astype(np.float64))),
            self._norm(len(query_E)),
            self._bias_max,
        )
        listed = shortlist(scores_V, error, handled(one), one.k, one.allowed_V)
        return self._found(
            query_E,
            np.concatenate((rows, listed)),
            np.concatenate((bonus, np.zeros(len(listed), dtype=np.float32))),
            one.k,
            scanned=len(self._table),
        )

    def _found(self, query_E: Floats, rows: Rows, bonus: Floats, k: int, scanned: int) -> Found:
        scores = exact_scores(self._table, self._bias, query_E, rows, bonus)
        best_rows, best_scores = best(scores, rows, k)
        return Found(
            rows=best_rows,
            scores=best_scores,
            scanned=scanned,
            checked=len(rows),
            multiply_adds=len(query_E) * (scanned + len(rows)),
        )

    def _norm(self, width: int) -> float:
        if width not in self._norm_max:
            with torch.inference_mode():
                norms = self._table_VE[:, :width].double().norm(dim=1)
            self._norm_max[width] = float(norms.max()) * (1 + 1e-9)
        return self._norm_max[width]

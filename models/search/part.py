"""Exact top-k over one part of a table: a 4-bit scan of long parts, a plain product of short ones.

A part's rows hold R numbers, and its queries are what these are multiplied by: the columns of the
query that the part keeps, or the query under the part's projection, in float32. A query too narrow
for any of these columns has no numbers here, and its scores are the bias.
"""

# B queries, N rows of the part, R numbers of a row, E embedding width

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from models.search.contract import Found
from models.search.exact import Floats, Rows, best, exact_scores
from models.search.plain import product, product_error, shortlist
from models.search.task import Task
from models.table.table import TablePart

if TYPE_CHECKING:
    from models.search.scan import NibbleScan

_UP = 1 + 1e-6  # more than any rounding of a bound


class PartSearch:
    """Answers in rows of the part, from 0; for one thread at a time.

    `bias_N` float32 is the part's share of the bias. An index is built for `index_from` rows and
    more. Rows and bias are read where they lie: neither may change.
    """

    def __init__(
        self, part: TablePart, bias_N: torch.Tensor, widths: Sequence[int], *, index_from: int
    ) -> None:
        self.start, self.stop = part.start, part.stop
        self._rows_NR = part.rows_NR.contiguous()
        self._bias_N = bias_N.contiguous()
        self._rows: Floats = self._rows_NR.numpy()
        self._bias: Floats = self._bias_N.numpy()
        self._projection: Floats | None = None
        if part.projection_RE is not None:
            self._projection = part.projection_RE.contiguous().numpy()
            self._no_bias = np.zeros(part.width, dtype=np.float32)
            self._numbers = np.arange(part.width)
        self._columns: Rows | None = None if part.columns_R is None else part.columns_R.numpy()
        self._bias_most = float(self._bias.max())
        self._bias_largest = float(np.abs(self._bias).max())
        self._norms: dict[int, float] = {}
        self._scan: NibbleScan | None = None
        if len(self._rows) >= index_from:
            from models.search.scan import NibbleScan

            own = (
                {part.width}
                if self._projection is not None
                else {part.within(width) for width in widths} - {0}
            )
            if own:
                self._scan = NibbleScan(self._rows, self._bias, sorted(own))

    @property
    def rows(self) -> int:
        """How many rows the part has, N."""
        return len(self._rows)

    @property
    def index_bytes(self) -> int:
        """Bytes held beside rows and bias; 0 for a short part."""
        return 0 if self._scan is None else self._scan.num_bytes

    def queries(self, query_BE: Floats) -> tuple[Floats, int]:
        """Return (query_BR float32, the multiply-adds that each of them took).

        A query's numbers depend on it alone, not on the batch.
        """
        projection = self._projection
        if projection is None:
            if self._columns is None:
                return query_BE[:, : self._rows.shape[1]], 0
            own = int(self._columns.searchsorted(query_BE.shape[1]))
            return query_BE.take(self._columns[:own], axis=1), 0
        query_BR = np.stack(
            [exact_scores(projection, self._no_bias, one, self._numbers) for one in query_BE]
        )
        return query_BR, query_BR.shape[1] * query_BE.shape[1]

    def bound(self, query_R: Floats) -> float:
        """Return a number that no row's score exceeds, what memory adds left out."""
        bound = _length(query_R) * self._norm(len(query_R)) * _UP + self._bias_most
        with np.errstate(over="ignore"):
            return float(np.nextafter(np.float32(bound + abs(bound) * 1e-9), np.float32(np.inf)))

    def largest(self, query_R: Floats) -> float:
        """Return a number that no row's score exceeds in size, what memory adds left out."""
        return (_length(query_R) * self._norm(len(query_R)) + self._bias_largest) * _UP

    def error(self, query_R: Floats) -> float:
        """Return how far `products` may be from the truth; inf where nothing is known."""
        width = len(query_R)
        return product_error(width, _length(query_R), self._norm(width), self._bias_largest)

    def mean(self) -> tuple[NDArray[np.float64], float]:
        """Return (the mean row, the mean bias), float64."""
        return self._rows.mean(0, dtype=np.float64), float(self._bias.mean(dtype=np.float64))

    def products(self, query_R: Floats) -> Floats:
        """Return every row's score, (N,) float32, each within `error`; of one query alone."""
        query = torch.from_numpy(np.ascontiguousarray(query_R))
        scores_N: Floats = torch.addmv(
            self._bias_N, self._rows_NR[:, : len(query_R)], query
        ).numpy()
        return scores_N

    def scores(self, query_R: Floats, rows_M: Rows) -> Floats:
        """Return the exact scores of some rows, (M,) float32, what memory adds left out."""
        return exact_scores(self._rows, self._bias, query_R, rows_M)

    def check(self, query_R: Floats, task: Task) -> Found:
        """Return the best of the task's own rows; nothing else is looked at."""
        return self._found(query_R, task.rows, task.bonus, task.k, scanned=0)

    def top(self, query_BR: Floats, tasks: Sequence[Task]) -> list[Found]:
        """Return the best rows of each query."""
        answers: dict[int, Found] = {}
        if self._scan is not None:
            ready = self._scan.integers(query_BR)
            covered = np.flatnonzero(ready.covered_Q).tolist()
            if len(covered) == len(tasks):
                return self._scan.top(ready, tasks)
            if covered:
                found = self._scan.top(ready.only(covered), [tasks[place] for place in covered])
                answers.update(zip(covered, found, strict=True))
        rest = [place for place in range(len(tasks)) if place not in answers]
        if rest:
            scores_BN = product(self._rows_NR, self._bias_N, torch.from_numpy(query_BR[rest]))
            for place, scores_N in zip(rest, scores_BN, strict=True):
                answers[place] = self._plain(query_BR[place], scores_N, tasks[place])
        return [answers[place] for place in range(len(tasks))]

    def _plain(self, query_R: Floats, scores_N: torch.Tensor, task: Task) -> Found:
        listed = shortlist(scores_N, self.error(query_R), task.handled, task.k, task.allowed_V)
        return self._found(
            query_R,
            np.concatenate((task.rows, listed)),
            np.concatenate((task.bonus, np.zeros(len(listed), dtype=np.float32))),
            task.k,
            scanned=len(self._rows),
        )

    def _found(
        self, query_R: Floats, rows: np.ndarray, bonus: Floats, k: int, scanned: int
    ) -> Found:
        scores = exact_scores(self._rows, self._bias, query_R, rows, bonus)
        best_rows, best_scores = best(scores, rows, k)
        return Found(
            rows=best_rows,
            scores=best_scores,
            scanned=scanned,
            checked=len(rows),
            multiply_adds=len(query_R) * (scanned + len(rows)),
        )

    def _norm(self, width: int) -> float:
        """Return the largest length of a row's leading `width` numbers, rounded up."""
        if width not in self._norms:
            with torch.inference_mode():
                norms_N = torch.linalg.vector_norm(
                    self._rows_NR[:, :width], dim=1, dtype=torch.float64
                )
            self._norms[width] = float(norms_N.max()) * (1 + 1e-9)
        return self._norms[width]


def _length(query_R: Floats) -> float:
    return float(np.linalg.norm(query_R.astype(np.float64)))

"""Exact top-k under a two-level softmax, opening only the blocks that can matter.

A tail block's shift needs the sum over all of its items, so a block is read whole or not at all.
It is left unread where a bound on its best score is below the k-th best so far. Two things bound
an item's logarithm within its block: it is not above 0, and the sum is at least the number of
items times the exponential of their mean score, which the block's mean row tells.
"""

# B queries, V catalog rows with padding, E embedding width, R numbers a row of a block has

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from models.search.asked import Asked
from models.search.contract import Found, Wanted
from models.search.exact import Floats, exact_scores
from models.search.part import PartSearch
from models.search.search import INDEX_FROM_ROWS, check_searchable, parts_of
from models.search.task import Task
from models.table.table import ItemTable
from models.table.tokens import BlockTokens

_ROUNDING = 2.0**-21  # more than two numbers rounded to float32 are off, for their size


class TwoLevelSearch:
    """Answers queries over a table whose tail blocks have tokens; see `CatalogSearch`.

    `tokens` are of the whole embedding width. A score is the table's own, as `exact.py` defines
    it, plus the block's shift in float32 (0 for the first block); rows are ordered by the sum in
    float64 (equal ones by the table's own score, then by row), rounded to float32 in the answer.
    """

    def __init__(
        self,
        table: ItemTable,
        bias_V: Tensor,
        tokens: BlockTokens,
        widths: Sequence[int],
        *,
        index_from: int = INDEX_FROM_ROWS,
    ) -> None:
        check_searchable(table, (*table.tensors(), bias_V, tokens.tokens_TE, tokens.bias_T), widths)
        self._head, *tails = parts_of(table, bias_V, widths, index_from=index_from)
        self._tails = [_Tail(part) for part in tails]
        self._tokens: Floats = tokens.tokens_TE.detach().contiguous().numpy()
        self._token_bias: Floats = tokens.bias_T.detach().contiguous().numpy()
        self._places = np.arange(len(tails))

    @property
    def index_bytes(self) -> int:
        """Bytes the search holds beside the table; 0 for a small catalog."""
        return sum(part.index_bytes for part in (self._head, *(one.part for one in self._tails)))

    def top(self, query_BE: Tensor, wanted: Sequence[Wanted]) -> list[Found]:
        """Return the best rows of each query. `query_BE` float32; ValueError if not finite."""
        queries = query_BE.detach().numpy()
        if not np.isfinite(queries).all():
            raise ValueError("a query vector is not finite")
        return [self._one(queries[[place]], one) for place, one in enumerate(wanted)]

    def _one(self, query_1E: Floats, wanted: Wanted) -> Found:
        asked = Asked(wanted)
        query_1R, spent = self._head.queries(query_1E)
        task = asked.task(self._head, {})
        found = (
            self._head.check(query_1R[0], task)
            if asked.only_checks
            else self._head.top(query_1R, [task])[0]
        )
        asked.add(found, self._head.start)
        token_T = exact_scores(self._tokens, self._token_bias, query_1E[0], self._places)
        asked.multiply_adds += spent + self._tokens.shape[0] * query_1E.shape[1]
        visits = []
        for tail, token in zip(self._tails, token_T.tolist(), strict=True):
            query_1R, spent = tail.part.queries(query_1E)
            asked.multiply_adds += spent
            task = asked.task(tail.part, {})
            bound = tail.bound(query_1R[0], token, task, rows_alone=asked.only_checks)
            asked.multiply_adds += query_1R.shape[1] * (1 + len(task.rows))
            visits.append((bound, token, tail, query_1R, task))
        for bound, token, tail, query_1R, task in sorted(visits, key=lambda visit: -visit[0]):
            if bound < asked.bar or bound == -np.inf:
                continue
            shift = np.float32(token - tail.sum(query_1R[0]))
            asked.multiply_adds += tail.part.rows * query_1R.shape[1]
            if not np.isfinite(shift):  # nothing in the block has a finite score
                continue
            found = (
                tail.part.check(query_1R[0], task)
                if asked.only_checks
                else tail.part.top(query_1R, [task])[0]
            )
            asked.add(found, tail.part.start, shift=float(shift))
        return asked.found()


class _Tail:
    """One tail block: its rows, and what bounds their sum from below."""

    def __init__(self, part: PartSearch) -> None:
        self.part = part
        self._mean_R, self._mean_bias = part.mean()
        self._log_rows = float(np.log(part.rows))

    def sum(self, query_R: Floats) -> float:
        """Return the logarithm of the summed exponentials of all rows' scores.

        Of one query alone, so that it depends on no other.
        """
        scores_N = self.part.products(query_R).astype(np.float64)
        most = float(scores_N.max())
        with np.errstate(invalid="ignore"):
            return most + float(np.log(np.exp(scores_N - most).sum()))

    def bound(self, query_R: Floats, token: float, task: Task, *, rows_alone: bool) -> float:
        """Return what no eligible row's shifted score exceeds, memory added; -inf without any."""
        least = self._log_rows + self._mean_bias
        least += float(query_R.astype(np.float64) @ self._mean_R[: len(query_R)])
        bounds = [] if rows_alone else [min(0.0, self.part.bound(query_R) - least)]
        if len(task.rows):
            raw_N = self.part.scores(query_R, task.rows).astype(np.float64)
            bounds.append(float((raw_N - np.maximum(raw_N, least) + task.bonus).max()))
        most_bonus = float(np.abs(task.bonus).max(initial=0.0))
        sizes = self.part.largest(query_R) + abs(token) + most_bonus + self._log_rows
        slack = 2 * self.part.error(query_R) + _ROUNDING * sizes
        return max(bounds, default=-np.inf) + token + slack

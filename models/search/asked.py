"""One request on its way through the parts of a table, and the best that they had so far."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.search.contract import Found, Wanted
from models.search.exact import Floats, Rows
from models.search.part import PartSearch
from models.search.rows import split
from models.search.task import Task

Doubles = NDArray[np.float64]


class Asked:
    """Gathers what the parts find; `bar` is the k-th best so far, -inf while there are fewer."""

    def __init__(self, wanted: Wanted) -> None:
        self._k = wanted.k
        self._rows, self._bonus, self._handled = split(wanted)
        self._allowed = wanted.allowed_V
        self.only_checks = wanted.candidates is not None
        nothing = np.empty(0, dtype=np.float64)
        self._best: tuple[Rows, Doubles, Doubles] = (nothing.astype(np.int64), nothing, nothing)
        """Rows, shifted scores and the part's own scores, best first."""
        self.bar = -np.inf
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
        return self.bar > -np.inf and part.bound(query_R) <= self.bar

    def add(self, found: Found, start: int, shift: float = 0.0) -> None:
        """Take over what a part had, every score raised by `shift`."""
        self._scanned += found.scanned
        self._checked += found.checked
        self.multiply_adds += found.multiply_adds
        scores_M = np.array(found.scores, dtype=np.float64)
        more = (np.array(found.rows, dtype=np.int64) + start, scores_M + shift, scores_M)
        rows, sums, scores = (np.concatenate(pair) for pair in zip(self._best, more, strict=True))
        # A part's own order holds where a shift swallows what tells its rows apart.
        order = np.lexsort((rows, -scores, -sums))[: self._k]
        self._best = (rows[order], sums[order], scores[order])
        if len(order) == self._k:
            self.bar = float(sums[order[-1]])

    def found(self) -> Found:
        """Return the answer."""
        rows, sums, _ = self._best
        return Found(
            rows=rows.tolist(),
            scores=sums.astype(np.float32).tolist(),
            scanned=self._scanned,
            checked=self._checked,
            multiply_adds=self.multiply_adds,
        )


def _within(rows: Rows, part: PartSearch, beside: Floats | None = None) -> tuple[Rows, Floats]:
    """Return those of ascending `rows` that are the part's, as its own, and what stands beside."""
    first, last = np.searchsorted(rows, (part.start, part.stop))
    some = np.empty(0, dtype=np.float32) if beside is None else beside[first:last]
    return rows[first:last] - part.start, some

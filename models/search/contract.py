"""What is asked of a search over the catalog, and what it answers."""

# V catalog rows with padding, N rows with memory, C candidates

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.search.exact import Floats, Rows


def _no_rows() -> Rows:
    return np.empty(0, dtype=np.int64)


def _no_bonus() -> Floats:
    return np.empty(0, dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One request for the k best rows. Row 0, padding, is never eligible.

    `memory_rows_N` int64, distinct, ascending, with `memory_N` float32 of either sign: what the
    transition memory adds to those rows. `allowed_V` bool: rows that pass the filter.
    """

    k: int
    excluded: Sequence[int] | Rows = ()
    candidates: Sequence[int] | Rows | None = None
    """Only these rows, distinct; None means the whole catalog."""
    allowed_V: NDArray[np.bool_] | None = None
    memory_rows_N: Rows = field(default_factory=_no_rows)
    memory_N: Floats = field(default_factory=_no_bonus)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The answer, best first: of equal scores the smaller row; fewer than k if fewer are eligible.

    `scanned` rows were scored approximately and `checked` rows exactly; a multiply-add for each
    column of each of them is what the search spent (`multiply_adds`).
    """

    rows: list[int]
    scores: list[float]
    scanned: int
    checked: int
    multiply_adds: int

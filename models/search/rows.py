"""Which rows a search leaves to exact scoring, and which it may still scan."""

# N rows with memory, C candidates, H handled rows

from __future__ import annotations

import numpy as np

from models.search.contract import Wanted
from models.search.exact import Floats, Rows


def to_check(wanted: Wanted) -> tuple[Rows, Floats]:
    """Return (rows, bonus): eligible rows that must be scored exactly, whatever a scan finds.

    With candidates these are all eligible rows; otherwise the ones that the memory adds to.
    """
    rows, bonus = wanted.memory_rows_N, wanted.memory_N
    if wanted.candidates is not None:
        chosen = np.unique(np.asarray(wanted.candidates, dtype=np.int64))
        rows, bonus = chosen, _bonus_of(chosen, rows, bonus)
    if not len(rows):
        return rows, bonus
    keep = rows != 0
    if len(wanted.excluded):
        keep &= ~np.isin(rows, np.asarray(wanted.excluded, dtype=np.int64))
    if wanted.allowed_V is not None:
        keep &= wanted.allowed_V[rows]
    return rows[keep], bonus[keep]


def handled(wanted: Wanted) -> Rows:
    """Return the rows, ascending, that a scan of the catalog must leave out; 0 among them."""
    return np.unique(
        np.concatenate(
            (
                np.zeros(1, dtype=np.int64),
                np.asarray(wanted.excluded, dtype=np.int64),
                wanted.memory_rows_N,
            )
        )
    )


def _bonus_of(chosen_C: Rows, rows_N: Rows, bonus_N: Floats) -> Floats:
    out_C = np.zeros(len(chosen_C), dtype=np.float32)
    if len(rows_N):
        places_C = np.minimum(np.searchsorted(rows_N, chosen_C), len(rows_N) - 1)
        found_C = rows_N[places_C] == chosen_C
        out_C[found_C] = bonus_N[places_C[found_C]]
    return out_C

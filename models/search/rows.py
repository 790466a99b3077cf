"""Which rows a search leaves to exact scoring, and which it may still scan."""

# N rows with memory, C candidates, H handled rows

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.search.contract import Wanted
from models.search.exact import Floats, Rows

_NO_MASK: NDArray[np.bool_] = np.empty(0, dtype=np.bool_)


def split(wanted: Wanted) -> tuple[Rows, Floats, Rows]:
    """Return (rows, bonus, handled) of a request.

    `rows` must be scored exactly, whatever a scan finds: with candidates these are all eligible
    rows, otherwise the ones that the memory adds `bonus` to. `handled`, ascending, row 0 among
    them, a scan of the catalog must leave out.
    """
    from models.search.queries import sift

    rows, bonus = wanted.memory_rows_N, wanted.memory_N
    if wanted.candidates is not None:
        chosen = np.unique(np.asarray(wanted.candidates, dtype=np.int64))
        rows, bonus = chosen, _bonus_of(chosen, rows, bonus)
    excluded = np.asarray(wanted.excluded, dtype=np.int64)
    allowed_V = _NO_MASK if wanted.allowed_V is None else wanted.allowed_V
    kept = np.empty(len(rows), dtype=np.int64)
    kept_bonus = np.empty(len(rows), dtype=np.float32)
    handled = np.empty(len(rows) + len(excluded) + 1, dtype=np.int64)
    filtered = wanted.allowed_V is not None
    sizes = sift(rows, bonus, excluded, allowed_V, filtered, kept, kept_bonus, handled)
    return kept[: sizes[0]], kept_bonus[: sizes[0]], handled[: sizes[1]]


def _bonus_of(chosen_C: Rows, rows_N: Rows, bonus_N: Floats) -> Floats:
    out_C = np.zeros(len(chosen_C), dtype=np.float32)
    if len(rows_N):
        places_C = np.minimum(np.searchsorted(rows_N, chosen_C), len(rows_N) - 1)
        found_C = rows_N[places_C] == chosen_C
        out_C[found_C] = bonus_N[places_C[found_C]]
    return out_C

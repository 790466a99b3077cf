"""What a scan is asked for one query, in rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.search.exact import Floats, Rows


@dataclass(frozen=True, slots=True)
class Task:
    """What a scan is asked beside the query.

    The k best of `rows` (with `bonus`, scored exactly first) and of all rows that are allowed and
    not `handled` (ascending, row 0 among them).
    """

    k: int
    rows: Rows
    bonus: Floats
    handled: Rows
    allowed_V: NDArray[np.bool_] | None

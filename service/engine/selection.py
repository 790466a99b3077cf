"""The best rows of a batch of score rows, exactly, all queries at once."""

# B batch, V catalog rows with padding, K most rows wanted

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


class Selector:
    """Picks the best rows; compiled code is loaded when it is made."""

    def __init__(self) -> None:
        from models.kernels.selection import select

        self._select = select

    def best(
        self, scores_BV: Floats, closed: Sequence[Rows], ks: Sequence[int]
    ) -> list[tuple[list[int], list[float]]]:
        """Return (rows, scores) of each row's k best scores above -inf, best first.

        `scores_BV` is contiguous; rows that `closed` names for a query are set to -inf first. Of
        equal scores the smaller row wins; fewer than k where fewer are above -inf.
        FloatingPointError when a score that could be answered is not a number.
        """
        batch, rows = scores_BV.shape
        most = min(max(ks), rows)
        rows_BK = np.empty((batch, most), dtype=np.int64)
        best_BK = np.empty((batch, most), dtype=np.float32)
        sizes_B = np.empty(batch, dtype=np.int64)
        bounds_B = np.array([0, *accumulate(map(len, closed))])
        sound = self._select(
            scores_BV, np.concatenate(closed), bounds_B, np.array(ks), rows_BK, best_BK, sizes_B
        )
        if not sound:
            raise FloatingPointError("a score is not a number")
        return [
            (rows_K[:size], best_K[:size])
            for rows_K, best_K, size in zip(
                rows_BK.tolist(), best_BK.tolist(), sizes_B.tolist(), strict=True
            )
        ]

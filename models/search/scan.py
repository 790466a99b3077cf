"""The 4-bit scan of one query: prepare the integers, run the kernel, order what it found."""

# V catalog rows with padding, E embedding width, N rows to check, H handled rows

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.search import kernel
from models.search.contract import Found
from models.search.exact import Floats, Rows, best
from models.search.quantise import quantise

_MOST_LEVELS = 4095  # 8 * this is the largest sum that 16 bits hold
_LEAST_DELTA = 1e-30
_LARGEST = 1e30
_EVERYTHING: NDArray[np.bool_] = np.empty(0, dtype=np.bool_)


class NibbleScan:
    """A quantised table and the scan over it; the float32 table is read, never copied."""

    def __init__(self, table_VE: Floats, bias_V: Floats, widths: Sequence[int]) -> None:
        self._table = table_VE
        self._bias = bias_V
        self._index = quantise(table_VE, bias_V, widths)
        self._norm_max = self._index.norm_WK.max(axis=1)
        self._bias_max = float(np.abs(bias_V).max())

    @property
    def num_bytes(self) -> int:
        """Resident bytes of the index."""
        return self._index.num_bytes

    def top(
        self,
        query_E: Floats,
        rows_N: Rows,
        bonus_N: Floats,
        handled_H: Rows,
        allowed_V: NDArray[np.bool_] | None,
        k: int,
    ) -> Found | None:
        """Return the k best of `rows_N` (with bonus) and of all allowed rows not handled.

        `handled_H` is ascending. None when the numbers are too large or too small for the scan's
        arithmetic, or the width has no index: search another way.
        """
        index = self._index
        width = len(query_E)
        if width not in index.widths:
            return None
        place = index.widths.index(width)
        query = query_E.astype(np.float64)
        scaled = query * index.column_scale_E[:width]
        q_norm = float(np.linalg.norm(query))
        delta = float(np.abs(scaled).sum()) / (_MOST_LEVELS - width / 2)
        if delta == 0.0:
            delta = 1.0
        reach = q_norm * float(self._norm_max[place]) + self._bias_max
        if not (reach < _LARGEST and _LEAST_DELTA <= delta < _LARGEST):
            return None
        levels = np.zeros(width + width % 2)
        levels[:width] = np.rint(scaled / delta)
        rest = scaled / delta - levels[:width]
        terms = np.array(
            [
                delta,
                q_norm,
                delta * np.linalg.norm(rest),
                delta * np.linalg.norm(levels),
                kernel.SLACK * self._bias_max + 1e-40,
            ]
        )
        k = min(k, len(self._bias))
        scores, rows = np.empty(k, dtype=np.float32), np.empty(k, dtype=np.int64)
        size = kernel.check(self._table, self._bias, query, rows_N, bonus_N, scores, rows, 0)
        size, scanned, checked = kernel.scan(
            index.codes_KPR,
            index.row_scale_V,
            index.error_WK[place],
            index.length_WK[place],
            index.norm_WK[place],
            index.bias_K,
            self._table,
            self._bias,
            query,
            levels.astype(np.int16),
            terms,
            _EVERYTHING if allowed_V is None else allowed_V,
            handled_H,
            scores,
            rows,
            size,
        )
        best_rows, best_scores = best(scores[:size], rows[:size], k)
        checked += len(rows_N)
        return Found(
            rows=best_rows,
            scores=best_scores,
            scanned=scanned,
            checked=checked,
            multiply_adds=width * (scanned + checked),
        )

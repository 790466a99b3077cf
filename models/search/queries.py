"""Queries made ready for the scan, compiled: their integers, and which rows need no scan.

Compiled when imported, like `kernel.py`.
"""

# E embedding width, P byte rows, Q queries, N rows with memory, X excluded rows

from __future__ import annotations

import math

import numba
import numpy as np

from models.kernels.compiled import compiled
from models.search.kernel import SLACK

_MOST_LEVELS = 4095  # 8 * this is the largest sum that 16 bits hold
_LEAST_DELTA = 1e-30
_LARGEST = 1e30

_FLOATS = numba.types.Array(numba.float32, 1, "C", readonly=True)
_ROWS = numba.types.Array(numba.int64, 1, "C", readonly=True)
_QUERIES = numba.types.Array(numba.float64, 2, "C", readonly=True)
_MASK = numba.types.Array(numba.boolean, 1, "C", readonly=True)


@compiled(
    numba.void(
        *(_QUERIES, _FLOATS, numba.float64, numba.float64),
        *(numba.int16[:, :, ::1], numba.float64[:, ::1], numba.boolean[::1]),
    )
)
def integers(  # type: ignore[no-untyped-def]
    query_QE, column_scale_E, norm_most, bias_most, levels_QP2, terms_Q6, covered_Q
):
    """Write each query's `levels` and `terms` as `kernel.scan` reads them.

    `covered_Q`: whether the scan's arithmetic holds for its magnitude; where it does not, its
    levels and terms mean nothing. `norm_most` and `bias_most` are the table's largest.
    """
    width = query_QE.shape[1]
    for q in range(len(query_QE)):
        total = square = 0.0
        for e in range(width):
            total += abs(query_QE[q, e] * column_scale_E[e])
            square += query_QE[q, e] * query_QE[q, e]
        delta = total / (_MOST_LEVELS - width / 2) if total > 0 else 1.0
        norm = math.sqrt(square)
        covered_Q[q] = (
            norm * norm_most + bias_most < _LARGEST and delta >= _LEAST_DELTA and delta < _LARGEST
        )
        if not covered_Q[q]:
            continue
        levels_P2, last = levels_QP2[q], levels_QP2.shape[1] - 1
        whole_sum = 0
        whole_square = rest_square = 0.0
        for p in range(last):
            low = high = 0
            for half in range(2):
                e = 2 * p + half
                if e < width:
                    value = query_QE[q, e] * column_scale_E[e] / delta
                    whole = np.rint(value)
                    whole_square += whole * whole
                    rest_square += (value - whole) * (value - whole)
                    if half:
                        high = int(whole)
                    else:
                        low = int(whole)
            whole_sum += low + high
            # A byte is low + 16 * high. low * k0 + high * k1 = byte * k0 + high * (k1 - 16 * k0),
            # and arithmetic modulo 2^16 forgives what does not fit.
            levels_P2[p, 0] = low
            levels_P2[p, 1] = np.int16(high - 16 * low)
        levels_P2[last, :] = np.int16(-8 * whole_sum)
        terms_Q6[q, 0] = delta
        terms_Q6[q, 1] = norm
        terms_Q6[q, 2] = delta * math.sqrt(rest_square)
        terms_Q6[q, 3] = delta * math.sqrt(whole_square)
        terms_Q6[q, 4] = 0.5 * whole_sum
        terms_Q6[q, 5] = SLACK * bias_most + 1e-40


@compiled(
    numba.types.UniTuple(numba.int64, 2)(  # type: ignore[no-untyped-call]
        *(_ROWS, _FLOATS, _ROWS, _MASK, numba.boolean),
        *(numba.int64[::1], numba.float32[::1], numba.int64[::1]),
    )
)
def sift(  # type: ignore[no-untyped-def]
    rows_N, bonus_N, excluded_X, allowed_V, filtered, kept_N, kept_bonus_N, handled_H
):
    """Write the rows to check, with their bonus, and the rows that a scan leaves out.

    Of `rows_N`, distinct and ascending, those that are neither padding nor excluded, and that
    `allowed_V` allows if `filtered`. Left out are row 0, the excluded and all of `rows_N`,
    ascending and distinct. Returns how many there are of each.
    """
    excluded_X = np.sort(excluded_X)
    kept = x = n = 0
    handled_H[0] = 0
    handled = 1
    while n < len(rows_N) or x < len(excluded_X):
        if x == len(excluded_X) or (n < len(rows_N) and rows_N[n] < excluded_X[x]):
            row = rows_N[n]
            if row != 0 and (not filtered or allowed_V[row]):
                kept_N[kept] = row
                kept_bonus_N[kept] = bonus_N[n]
                kept += 1
            n += 1
        else:
            row = excluded_X[x]
            x += 1
            if n < len(rows_N) and rows_N[n] == row:
                n += 1
        if row != handled_H[handled - 1]:
            handled_H[handled] = row
            handled += 1
    return kept, handled

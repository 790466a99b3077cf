"""The scan: one pass over the 4-bit table, exact re-check of every row that could still win.

Compiled when this module is imported (about two seconds), so import it only where a catalog is
large enough to need it. Nothing is cached on disk: the file system may be read-only. The compiled
functions release the interpreter lock.

Why nothing is lost. A query is written as `q[e] * column_scale[e] = delta * (k[e] + f[e])` with
integers k and |f[e]| <= 1/2. With u = levels - 7.5 of a row and `a` its row scale,

    q . row = a * delta * (k . u)  +  a * delta * (f . u)  +  q . (row - row read back)

The first term is computed in integers: 16-bit sums that may wrap on the way but cannot at the
end, since 8 * sum|k| <= 32767. The second is at most a * delta * |f| * |u|, the third at most
|q| * |row - row read back|, both by Cauchy-Schwarz with the block's largest |u| and residual. So

    bound(row) = a * (delta * (k . u) + |q| * error + delta * |f| * length) + bias

is never below the true score; `SLACK` covers the float32 rounding of the bound itself. A row is
left out only when its bound lies below the k-th best exact score found so far, a whole block when
|q| * (its largest norm) + (its largest bias) does.
"""

# V rows, E columns, P byte rows, R rows of a block, K blocks, N handled rows

from __future__ import annotations

import numba
import numpy as np

SLACK = 2e-6
_GROUP = 32  # rows whose bounds are computed together: short, so that a rising bar helps soon
_MIDDLE_LOW = 8  # levels are read as c - 8 in integers; the half that 7.5 leaves is added after

_I8 = numba.int64
_COUNTS = numba.types.UniTuple(_I8, 3)  # type: ignore[no-untyped-call]
_FLOATS = numba.types.Array(numba.float32, 1, "C", readonly=True)
_TABLE = numba.types.Array(numba.float32, 2, "C", readonly=True)
_CODES = numba.types.Array(numba.uint8, 3, "C", readonly=True)
_MASK = numba.types.Array(numba.boolean, 1, "C", readonly=True)
_ROWS = numba.types.Array(numba.int64, 1, "C", readonly=True)
_QUERY = numba.types.Array(numba.float64, 1, "C", readonly=True)
_LEVELS = numba.types.Array(numba.int16, 1, "C", readonly=True)


@numba.njit(nogil=True)
def _exact(table_VE, row, query_E, bias, bonus, work_E):  # type: ignore[no-untyped-def]
    """`exact.exact_scores` of one row, bit for bit."""
    width = len(query_E)
    for e in range(width):
        work_E[e] = np.float64(table_VE[row, e]) * query_E[e]
    while width > 1:
        half = (width + 1) // 2
        for e in range(width - half):
            work_E[e] += work_E[half + e]
        width = half
    return np.float32((work_E[0] + np.float64(bias)) + np.float64(bonus))


@numba.njit(nogil=True)
def _worse(score, row, other_score, other_row):  # type: ignore[no-untyped-def]
    return score < other_score or (score == other_score and row > other_row)


@numba.njit(nogil=True)
def _offer(scores_K, rows_K, size, score, row):  # type: ignore[no-untyped-def]
    """Put a row into the heap of the best (its worst on top) if it belongs; return the size."""
    if not np.isfinite(score):
        return size
    place = 0
    if size < len(scores_K):
        place = size
        size += 1
        while place > 0:
            parent = (place - 1) // 2
            if not _worse(score, row, scores_K[parent], rows_K[parent]):
                break
            scores_K[place], rows_K[place] = scores_K[parent], rows_K[parent]
            place = parent
    elif not _worse(scores_K[0], rows_K[0], score, row):
        return size
    else:
        while True:
            child = 2 * place + 1
            if child >= size:
                break
            if child + 1 < size and _worse(
                scores_K[child + 1], rows_K[child + 1], scores_K[child], rows_K[child]
            ):
                child += 1
            if not _worse(scores_K[child], rows_K[child], score, row):
                break
            scores_K[place], rows_K[place] = scores_K[child], rows_K[child]
            place = child
    scores_K[place], rows_K[place] = score, row
    return size


@numba.njit(
    _I8(_TABLE, _FLOATS, _QUERY, _ROWS, _FLOATS, numba.float32[::1], _I8[::1], _I8), nogil=True
)
def check(  # type: ignore[no-untyped-def]
    table_VE, bias_V, query_E, rows_N, bonus_N, heap_score, heap_row, size
):
    """Offer these rows, exactly scored, to the heap of `size` entries; return its new size."""
    work_E = np.empty(len(query_E), dtype=np.float64)
    for n in range(len(rows_N)):
        row = rows_N[n]
        score = _exact(table_VE, row, query_E, bias_V[row], bonus_N[n], work_E)
        size = _offer(heap_score, heap_row, size, score, row)
    return size


@numba.njit(
    _COUNTS(
        *(_CODES, _FLOATS, _FLOATS, _FLOATS, _FLOATS, _FLOATS, _TABLE, _FLOATS),
        *(_QUERY, _LEVELS, numba.float64[::1], _MASK, _ROWS),
        *(numba.float32[::1], _I8[::1], _I8),
    ),
    nogil=True,
)
def scan(  # type: ignore[no-untyped-def]
    codes_KPR, scale_V, error_K, length_K, norm_K, bias_K, table_VE, bias_V,
    query_E, levels_2P, terms, allowed_V, handled_N,
    heap_score, heap_row, size,
):  # fmt: skip
    """Offer every row that could win to the heap; return (size, rows scanned, rows checked).

    `terms` is delta, |q|, delta * |f|, delta * |k|, the rounding slack of a bound. `allowed_V`
    may be empty: all are allowed. `handled_N`, ascending, are left out. A heap of `size` entries
    comes in and goes out.
    """
    blocks, _, block_rows = codes_KPR.shape
    delta, q_norm, f_norm, k_norm, slack = terms[0], terms[1], terms[2], terms[3], terms[4]
    delta32 = np.float32(delta)
    pairs = len(levels_2P) // 2
    total = 0
    for level in levels_2P:
        total += level
    start_at = np.int16(-_MIDDLE_LOW * total)
    half_total = np.float32(0.5 * total)
    sums_R = np.empty(block_rows, dtype=np.int16)
    bound_G = np.empty(_GROUP, dtype=np.float32)
    work_E = np.empty(len(query_E), dtype=np.float64)
    filtered = len(allowed_V) > 0
    handled = 0
    scanned = checked = 0
    least = np.float32(-np.inf)
    if size == len(heap_score):
        least = np.float32(heap_score[0] - slack - SLACK * abs(heap_score[0]))
    for block in range(blocks):
        if q_norm * norm_K[block] * (1 + SLACK) + bias_K[block] < least:
            continue
        first = block * block_rows
        rows = min(block_rows, len(bias_V) - first)
        if filtered and not allowed_V[first : first + rows].any():
            continue
        scanned += rows
        sums_R[:] = start_at
        for p in range(pairs):
            low, high = levels_2P[2 * p], levels_2P[2 * p + 1]
            codes_R = codes_KPR[block, p]
            for r in range(block_rows):
                both = codes_R[r]
                sums_R[r] += np.int16(np.int16(both & 15) * low) + np.int16(
                    np.int16(both >> 4) * high
                )
        spread = (q_norm * error_K[block] + f_norm * length_K[block]) * (1 + SLACK)
        spread32 = np.float32((spread + SLACK * k_norm * length_K[block]) * (1 + SLACK))
        for start in range(0, rows, _GROUP):
            count = min(_GROUP, rows - start)
            base = first + start
            scale_G, bias_G = scale_V[base : base + count], bias_V[base : base + count]
            sums_G = sums_R[start : start + count]
            above = np.int32(0)
            for r in range(count):
                product = delta32 * (np.float32(sums_G[r]) + half_total) + spread32
                bound_G[r] = scale_G[r] * product + bias_G[r]
                above |= np.int32(bound_G[r] >= least)
            if above == 0:
                continue
            for r in range(count):
                row = base + r
                if not bound_G[r] >= least or (filtered and not allowed_V[row]):
                    continue
                while handled < len(handled_N) and handled_N[handled] < row:
                    handled += 1
                if handled < len(handled_N) and handled_N[handled] == row:
                    continue
                checked += 1
                score = _exact(table_VE, row, query_E, bias_V[row], np.float32(0.0), work_E)
                size = _offer(heap_score, heap_row, size, score, row)
                if size == len(heap_score):
                    least = np.float32(heap_score[0] - slack - SLACK * abs(heap_score[0]))
    return size, scanned, checked

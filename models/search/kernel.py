"""The scan: one pass over the 4-bit table, exact re-check of every row that could still win.

Compiled when this module is imported (seconds, on a busy machine a minute), so import it only where
a catalog is large enough to need it. The result is kept on disk where that can be written
(`compiled.py`). The compiled functions release the interpreter lock.

Why nothing is lost. A query is written as `q[e] * column_scale[e] = delta * (k[e] + f[e])` with
integers k and |f[e]| <= 1/2. With u = levels - 7.5 of a row and `a` its row scale,

    q . row = a * delta * (k . u)  +  a * delta * (f . u)  +  q . (row - row read back)

The first term is computed in integers: 16-bit sums that may wrap on the way but cannot at the
end, since 8 * sum|k| <= 32767. The second is at most a * delta * |f| * |u|, the third at most
|q| * |row - row read back|, both by Cauchy-Schwarz with the block's largest |u| and residual. So

    bound(row) = a * (delta * (k . u) + |q| * error + delta * |f| * length) + bias

is never below the true score; `SLACK` covers the float32 rounding of the bound itself. A row is
left out only when its bound lies below the k-th best exact score found so far, a whole block when
|q| * (its largest norm) + (its largest bias) does, and a group of rows when its largest k . u
gives too little with the block's largest scale and bias.

Blocks are the outer loop and queries the inner one, two at a time: a batch reads the table once
and unpacks each byte half as often.
"""

# V rows, E columns, P byte rows, R rows of a block, K blocks, N rows, Q queries, H heap, M masks

from __future__ import annotations

import numba
import numpy as np

from models.kernels.compiled import compiled
from models.kernels.heap import offer, sort

SLACK = 2e-6
_GROUP = 32  # rows judged together: short, so that few are looked at for another's sake

_I8 = numba.int64
_FLOATS = numba.types.Array(numba.float32, 1, "C", readonly=True)
_TABLE = numba.types.Array(numba.float32, 2, "C", readonly=True)
_CODES = numba.types.Array(numba.uint8, 3, "C", readonly=True)
_MASKS = numba.types.Array(numba.boolean, 2, "C", readonly=True)
_ROWS = numba.types.Array(numba.int64, 1, "C", readonly=True)
_QUERIES = numba.types.Array(numba.float64, 2, "C", readonly=True)
_LEVELS = numba.types.Array(numba.int16, 3, "C", readonly=True)


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


@compiled(
    numba.void(
        *(_TABLE, _FLOATS, _QUERIES, _ROWS, _FLOATS, _ROWS),
        *(numba.float32[:, ::1], _I8[:, ::1], _ROWS, _I8[:, ::1]),
    )
)
def check(  # type: ignore[no-untyped-def]
    table_VE, bias_V, query_QE, rows_N, bonus_N, bounds_Q, scores_QH, rows_QH, k_Q, counts_Q3
):
    """Offer rows, exactly scored, to each query's heap of `k_Q[q]` entries; start its counts.

    Query q has `rows_N[bounds_Q[q]:bounds_Q[q + 1]]`. `counts_Q3`: see `scan`.
    """
    work_E = np.empty(query_QE.shape[1], dtype=np.float64)
    for q in range(len(k_Q)):
        scores_H, rows_H, size = scores_QH[q, : k_Q[q]], rows_QH[q, : k_Q[q]], 0
        for n in range(bounds_Q[q], bounds_Q[q + 1]):
            row = rows_N[n]
            score = _exact(table_VE, row, query_QE[q], bias_V[row], bonus_N[n], work_E)
            size = offer(scores_H, rows_H, size, score, row)
        counts_Q3[q, 0] = size
        counts_Q3[q, 1] = 0
        counts_Q3[q, 2] = bounds_Q[q + 1] - bounds_Q[q]


@numba.njit(nogil=True)
def _sum_one(codes_PR, levels_P2, sums_R):  # type: ignore[no-untyped-def]
    """Write k . (c - 8) of every row; sums may wrap on the way and are right at the end."""
    sums_R[:] = levels_P2[-1, 0]
    for p in range(len(levels_P2) - 1):
        low, high = levels_P2[p, 0], levels_P2[p, 1]
        codes_R = codes_PR[p]
        for r in range(len(sums_R)):
            both = np.int16(codes_R[r])
            sums_R[r] += np.int16(both * low) + np.int16((both >> np.int16(4)) * high)


@numba.njit(nogil=True)
def _sum_two(codes_PR, levels_P2, other_P2, sums_R, other_R):  # type: ignore[no-untyped-def]
    """Do `_sum_one` for two queries, unpacking each byte once."""
    sums_R[:] = levels_P2[-1, 0]
    other_R[:] = other_P2[-1, 0]
    for p in range(len(levels_P2) - 1):
        low, high = levels_P2[p, 0], levels_P2[p, 1]
        other_low, other_high = other_P2[p, 0], other_P2[p, 1]
        codes_R = codes_PR[p]
        for r in range(len(sums_R)):
            both = np.int16(codes_R[r])
            upper = both >> np.int16(4)
            sums_R[r] += np.int16(both * low) + np.int16(upper * high)
            other_R[r] += np.int16(both * other_low) + np.int16(upper * other_high)


@numba.njit(nogil=True)
def _bar(scores_H, size, k, slack):  # type: ignore[no-untyped-def]
    """Return what a bound must reach to belong to the k best."""
    if size < k:
        return np.float32(-np.inf)
    return np.float32(scores_H[0] - slack - SLACK * abs(scores_H[0]))


@numba.njit(nogil=True)
def _least_sum(bar, scale, bias, delta, half, spread):  # type: ignore[no-untyped-def]
    """Return an integer: rows whose sum lies below it cannot reach the bar.

    With the block's largest scale and bias; rounded down by one more than float64 can err.
    """
    if bar <= bias:
        return np.int16(-32768)
    least = ((bar - bias) / (scale * (1 + SLACK)) - spread) / delta - half
    least -= 1 + SLACK * abs(least)
    return np.int16(min(max(np.floor(least), -32768.0), 32767.0))


@numba.njit(nogil=True)
def _judge(  # type: ignore[no-untyped-def]
    block, first, rows, q, sums_R,
    scale_V, scale_K, error_K, length_K, bias_K, table_VE, bias_V,
    query_E, terms_6, allowed_MV, mask, handled_N, handled_end,
    scores_H, rows_H, counts_3, bar_Q, next_Q, work_E,
):  # fmt: skip
    """Check the rows of one block whose bound reaches the bar of query q, raising it."""
    counts_3[1] += rows
    delta, half, bar = terms_6[0], terms_6[4], bar_Q[q]
    spread = (terms_6[1] * error_K[block] + terms_6[2] * length_K[block]) * (1 + SLACK)
    spread = (spread + SLACK * terms_6[3] * length_K[block]) * (1 + SLACK)
    delta32, half32, spread32 = np.float32(delta), np.float32(half), np.float32(spread)
    least = _least_sum(bar, scale_K[block], bias_K[block], delta, half, spread)
    for start in range(0, rows, _GROUP):
        sums_G = sums_R[start : min(start + _GROUP, rows)]
        some = np.int16(0)
        for r in range(len(sums_G)):
            some |= np.int16(sums_G[r] >= least)
        if some == 0:
            continue
        stop = min(start + _GROUP, rows)
        for r in range(start, stop):
            row = first + r
            product = delta32 * (np.float32(sums_R[r]) + half32) + spread32
            if not scale_V[row] * product + bias_V[row] >= bar:
                continue
            if mask >= 0 and not allowed_MV[mask, row]:
                continue
            while next_Q[q] < handled_end and handled_N[next_Q[q]] < row:
                next_Q[q] += 1
            if next_Q[q] < handled_end and handled_N[next_Q[q]] == row:
                continue
            counts_3[2] += 1
            score = _exact(table_VE, row, query_E, bias_V[row], np.float32(0.0), work_E)
            counts_3[0] = offer(scores_H, rows_H, counts_3[0], score, row)
            bar = _bar(scores_H, counts_3[0], len(scores_H), terms_6[5])
            least = _least_sum(bar, scale_K[block], bias_K[block], delta, half, spread)
    bar_Q[q] = bar


@compiled(
    numba.void(
        *(_CODES, _FLOATS, _FLOATS, _FLOATS, _FLOATS, _FLOATS, _FLOATS, _TABLE, _FLOATS),
        *(_QUERIES, _LEVELS, _QUERIES, _MASKS, _ROWS, _ROWS, _ROWS),
        *(numba.float32[:, ::1], _I8[:, ::1], _ROWS, _I8[:, ::1]),
    )
)
def scan(  # type: ignore[no-untyped-def]
    codes_KPR, scale_V, scale_K, error_K, length_K, norm_K, bias_K, table_VE, bias_V,
    query_QE, levels_QP2, terms_Q6, allowed_MV, mask_Q, handled_N, handled_Q,
    scores_QH, rows_QH, k_Q, counts_Q3,
):  # fmt: skip
    """Offer every row that could win to its query's heap, and order the heaps, best first.

    `levels_QP2`: for each byte row what its whole byte and its upper half are multiplied by, and
    last the start of the sum. `terms_Q6`: delta, |q|, delta * |f|, delta * |k|, half of sum k, the
    rounding slack that the bias needs. `mask_Q`: the row of `allowed_MV` that filters a query, -1
    for none. Query q leaves out `handled_N[handled_Q[q]:handled_Q[q + 1]]`, ascending; its heap
    has room for `k_Q[q]`. `counts_Q3`: heap size, in and out; rows scanned; rows checked.
    """
    block_rows = codes_KPR.shape[2]
    sums_QR = np.empty((len(k_Q), block_rows), dtype=np.int16)
    bar_Q = np.empty(len(k_Q), dtype=np.float32)
    due_Q = np.empty(len(k_Q), dtype=np.int64)
    next_Q = handled_Q[:-1].copy()
    work_E = np.empty(query_QE.shape[1], dtype=np.float64)
    for q in range(len(k_Q)):
        bar_Q[q] = _bar(scores_QH[q], counts_Q3[q, 0], k_Q[q], terms_Q6[q, 5])
    for block in range(len(codes_KPR)):
        first = block * block_rows
        rows = min(block_rows, len(bias_V) - first)
        due = 0
        for q in range(len(k_Q)):
            if terms_Q6[q, 1] * norm_K[block] * (1 + SLACK) + bias_K[block] < bar_Q[q]:
                continue
            if mask_Q[q] >= 0 and not allowed_MV[mask_Q[q], first : first + rows].any():
                continue
            due_Q[due] = q
            due += 1
        codes_PR = codes_KPR[block]
        for i in range(0, due - 1, 2):
            a, b = due_Q[i], due_Q[i + 1]
            _sum_two(codes_PR, levels_QP2[a], levels_QP2[b], sums_QR[a], sums_QR[b])
        if due % 2:
            _sum_one(codes_PR, levels_QP2[due_Q[due - 1]], sums_QR[due_Q[due - 1]])
        for i in range(due):
            q = due_Q[i]
            _judge(
                block, first, rows, q, sums_QR[q],
                scale_V, scale_K, error_K, length_K, bias_K, table_VE, bias_V,
                query_QE[q], terms_Q6[q], allowed_MV, mask_Q[q], handled_N, handled_Q[q + 1],
                scores_QH[q, : k_Q[q]], rows_QH[q, : k_Q[q]], counts_Q3[q], bar_Q, next_Q, work_E,
            )  # fmt: skip
    for q in range(len(k_Q)):
        sort(scores_QH[q], rows_QH[q], counts_Q3[q, 0])

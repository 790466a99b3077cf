"""The best rows of a batch of score rows, exactly: one pass over each, and a heap of k."""

# B batch, V catalog rows with padding, N closed rows, K most rows wanted

from __future__ import annotations

import numba
import numpy as np

from models.kernels.compiled import compiled
from models.kernels.heap import offer, sort

_TOGETHER = 64  # scores looked at together: most of these groups hold nothing that belongs
_IDS = numba.types.Array(numba.int64, 1, "C", readonly=True)


@compiled(
    numba.boolean(
        *(numba.float32[:, ::1], _IDS, _IDS, _IDS),
        *(numba.int64[:, ::1], numba.float32[:, ::1], numba.int64[::1]),
    )
)
def select(  # type: ignore[no-untyped-def]
    scores_BV, closed_N, bounds_B, k_B, rows_BK, best_BK, sizes_B
):
    """Write rows and scores of the k best of each query, best first: of equal ones the smaller row.

    Rows `closed_N[bounds_B[b]:bounds_B[b + 1]]` of query b, and those at -inf, are never among
    them; the former are set to -inf. `sizes_B`: how many were found. True when all were numbers.
    """
    sound = True
    rows = scores_BV.shape[1]
    for b in range(len(k_B)):
        scores_V = scores_BV[b]
        for n in range(bounds_B[b], bounds_B[b + 1]):
            scores_V[closed_N[n]] = -np.inf
        heap_score, heap_row = best_BK[b, : k_B[b]], rows_BK[b, : k_B[b]]
        size = 0
        bar = np.float32(-np.inf)
        for start in range(0, rows, _TOGETHER):
            some_G = scores_V[start : min(start + _TOGETHER, rows)]
            any_above = np.int32(0)
            for score in some_G:
                any_above |= np.int32(not score <= bar)
            if any_above == 0:
                continue
            for g in range(len(some_G)):
                if not some_G[g] <= bar:
                    sound &= not np.isnan(some_G[g])
                    size = offer(heap_score, heap_row, size, some_G[g], start + g)
                    if size == k_B[b]:
                        bar = heap_score[0]
        sort(heap_score, heap_row, size)
        sizes_B[b] = size
    return sound

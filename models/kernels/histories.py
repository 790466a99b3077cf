"""Histories that stand one after another in one array: cut, padded and embedded for a batch."""

# B histories, M members of a group, N items of all histories, W window, L length, V table rows,
# E table columns, D columns that are wanted

from __future__ import annotations

import numba

from models.kernels.compiled import compiled

_IDS = numba.types.Array(numba.int64, 1, "C", readonly=True)
_BATCH = numba.types.Array(numba.int64, 2, "C", readonly=True)
_TABLE = numba.types.Array(numba.float32, 2, "C", readonly=True)


@compiled(numba.void(_IDS, _IDS, numba.int64[:, ::1]))
def newest(flat_N, bounds_B, recent_BW):  # type: ignore[no-untyped-def]
    """Write the newest items of each history, newest first, 0 where there are fewer."""
    for b in range(len(recent_BW)):
        start, stop = bounds_B[b], bounds_B[b + 1]
        for w in range(recent_BW.shape[1]):
            place = stop - 1 - w
            recent_BW[b, w] = flat_N[place] if place >= start else 0


@compiled(numba.void(_IDS, _IDS, _IDS, numba.int64[:, ::1], numba.int64[::1]))
def stack(flat_N, bounds_B, members_M, ids_ML, lengths_M):  # type: ignore[no-untyped-def]
    """Write the newest items of the members, oldest first and right-padded, and their number."""
    most = ids_ML.shape[1]
    for m in range(len(members_M)):
        stop = bounds_B[members_M[m] + 1]
        start = max(bounds_B[members_M[m]], stop - most)
        lengths_M[m] = stop - start
        for place in range(most):
            ids_ML[m, place] = flat_N[start + place] if start + place < stop else 0


@compiled(numba.void(_TABLE, _TABLE, _BATCH, numba.float32[:, :, ::1]))
def embed(table_VE, positions_LD, ids_ML, embedded_MLD):  # type: ignore[no-untyped-def]
    """Write each item's leading columns plus its position's; `positions_LD` may be empty."""
    for m in range(ids_ML.shape[0]):
        for place in range(ids_ML.shape[1]):
            row_E, out_D = table_VE[ids_ML[m, place]], embedded_MLD[m, place]
            for d in range(len(out_D)):
                out_D[d] = row_E[d]
            if len(positions_LD):
                for d in range(len(out_D)):
                    out_D[d] += positions_LD[place, d]

"""What the transition memory adds to scores, entry by entry."""

# B batch, W window, V catalog rows with padding, N entries of all rows, T entries of one history

from __future__ import annotations

import math

import numba
import numpy as np

from models.kernels.compiled import compiled

FLOATS = numba.types.Array(numba.float32, 1, "C", readonly=True)
_INTS = numba.types.Array(numba.int32, 1, "C", readonly=True)
RECENT = numba.types.Array(numba.int64, 2, "A", readonly=True)
MEMORY = (_INTS, _INTS, FLOATS, FLOATS)
SCRATCH = (numba.float32[::1], numba.int64[::1])


@numba.njit(nogil=True)
def gather(  # type: ignore[no-untyped-def]
    offsets_V, items_N, weights_N, per_age_W, recent_W, evidence_V, touched_T
):
    """Sum the evidence of one history; return how many of `touched_T` have some.

    A row stands there twice only if its first entries were too small to count.
    """
    count = 0
    for w in range(len(recent_W)):
        row = recent_W[w]
        for n in range(offsets_V[row], offsets_V[row + 1]):
            item = items_N[n]
            if evidence_V[item] == 0:
                touched_T[count] = item
                count += 1
            evidence_V[item] += weights_N[n] * per_age_W[w]
    return count


@numba.njit(nogil=True)
def worth(evidence, gain):  # type: ignore[no-untyped-def]
    """Return what so much evidence adds."""
    return np.float32(math.log1p(evidence)) * gain


@compiled(numba.void(*MEMORY, RECENT, FLOATS, *SCRATCH, numba.float32[:, ::1]))
def add(  # type: ignore[no-untyped-def]
    offsets_V, items_N, weights_N, per_age_W, recent_BW, gains_B, evidence_V, touched_T, scores_BV
):
    """Add gain * log(1 + evidence) to the scores; `evidence_V` is zero before and after."""
    for b in range(len(recent_BW)):
        count = gather(
            offsets_V, items_N, weights_N, per_age_W, recent_BW[b], evidence_V, touched_T
        )
        for item in touched_T[:count]:
            scores_BV[b, item] += worth(evidence_V[item], gains_B[b])
            evidence_V[item] = 0

"""What the transition memory adds to scores, as lists of rows: for catalogs that are searched.

Apart from `memory.py`, as what sorts takes longest to compile.
"""

# B batch, V catalog rows with padding, N entries of all rows, T entries of one history, R rows

from __future__ import annotations

import numba
import numpy as np

from models.kernels.compiled import compiled
from models.kernels.memory import FLOATS, MEMORY, RECENT, SCRATCH, gather, worth


@compiled(
    numba.void(
        *(*MEMORY, RECENT, FLOATS, *SCRATCH),
        *(numba.int64[::1], numba.float32[::1], numba.int64[:, ::1]),
    )
)
def additions(  # type: ignore[no-untyped-def]
    offsets_V, items_N, weights_N, per_age_W, recent_BW, gains_B, evidence_V, touched_T,
    rows_R, values_R, counts_B2,
):  # fmt: skip
    """Write what `add` adds: rows, ascending in each history, and values, history by history.

    `counts_B2`: how many of these a history has, and how many entries were read for it.
    """
    end = 0
    for b in range(len(recent_BW)):
        count = gather(
            offsets_V, items_N, weights_N, per_age_W, recent_BW[b], evidence_V, touched_T
        )
        start = end
        for item in np.sort(touched_T[:count]):
            if evidence_V[item] != 0:
                rows_R[end] = item
                values_R[end] = worth(evidence_V[item], gains_B[b])
                evidence_V[item] = 0
                end += 1
        counts_B2[b, 0] = end - start
        counts_B2[b, 1] = 0
        for row in recent_BW[b]:
            counts_B2[b, 1] += offsets_V[row + 1] - offsets_V[row]

"""The router's view of histories, and its forward pass. A history's numbers depend on it alone."""

# B batch, W newest items read, G numbers seen of an item, C features, R hidden units, S submodels
# V catalog rows with padding, N entries of all rows of the memory, K steps

from __future__ import annotations

import math

import numba
import numpy as np

from models.kernels.compiled import compiled

_VECTOR = numba.types.Array(numba.float32, 1, "C", readonly=True)
_MATRIX = numba.types.Array(numba.float32, 2, "C", readonly=True)
_CUBE = numba.types.Array(numba.float32, 3, "C", readonly=True)
_IDS = numba.types.Array(numba.int64, 1, "C", readonly=True)
_OUT = numba.float32[:, ::1]
_RECENT = numba.types.Array(numba.int64, 2, "A", readonly=True)
_ENTRIES = numba.types.Array(numba.int32, 1, "C", readonly=True)


@compiled(numba.void(_CUBE, _IDS, numba.int64, numba.int64, numba.float64, _OUT))
def features(seen_BWG, lengths_B, max_length, first, tiny, out_BC):  # type: ignore[no-untyped-def]
    """Write what `models.router.features` describes; prefixes begin at column `first` of G.

    Of a history shorter than the window what is seen of padding must be zeros.
    """
    _, window, width = seen_BWG.shape
    for b in range(len(lengths_B)):
        length = lengths_B[b]
        count = min(length, window)
        seen_WG = seen_BWG[b]
        mean_G = out_BC[b, 5 + width :]
        for g in range(width):
            mean_G[g] = 0
        norms = 0.0
        for w in range(count):
            square = 0.0
            for g in range(width):
                value = seen_WG[w, g]
                mean_G[g] += value
                if g >= first:
                    square += value * value
            norms += math.sqrt(square)
        apart = newest_square = mean_square = both = 0.0
        for g in range(width):
            mean_G[g] /= np.float32(count)
            out_BC[b, 5 + g] = seen_WG[0, g]
            if g >= first:
                newest_square += seen_WG[0, g] * seen_WG[0, g]
                mean_square += mean_G[g] * mean_G[g]
                both += seen_WG[0, g] * mean_G[g]
        for w in range(count):
            apart += (seen_WG[w, 0] - mean_G[0]) ** 2
        newest_norm, mean_norm = math.sqrt(newest_square), math.sqrt(mean_square)
        out_BC[b, 0] = math.log1p(length) / math.log1p(max_length)
        out_BC[b, 1] = length / max_length
        out_BC[b, 2] = math.sqrt(apart / count)
        out_BC[b, 3] = mean_norm / max(norms / count, tiny)
        out_BC[b, 4] = both / (max(newest_norm, tiny) * max(mean_norm, tiny))


@compiled(
    numba.void(_ENTRIES, _ENTRIES, _VECTOR, _RECENT, numba.int64, numba.int64, _OUT),
)
def surprise(  # type: ignore[no-untyped-def]
    offsets_V, items_N, weights_N, recent_BW, steps, first, out_BC
):
    """Write what `models.surprise.Surprise.write` describes from column `first` on."""
    window = recent_BW.shape[1]
    best_W = np.empty(window, dtype=np.float32)
    for b in range(len(recent_BW)):
        sum_K = out_BC[b, first : first + steps]
        sum_K[:] = 0
        best_W[:] = 0
        count = 0
        while count < window and recent_BW[b, count] != 0:
            count += 1
        for older in range(1, count):
            row = recent_BW[b, older]
            reach = min(steps, older)
            start = offsets_V[row]
            row_N = items_N[start : offsets_V[row + 1]]
            for k in range(reach):
                wanted = np.int32(recent_BW[b, older - 1 - k])
                place = np.int32(0)
                for n in range(len(row_N)):  # to the end: without a branch it is several at once
                    place = max(place, np.int32(n + 1) if row_N[n] == wanted else np.int32(0))
                if place:
                    worth = np.float32(math.log1p(weights_N[start + place - 1]))
                    sum_K[k] += worth
                    best_W[older - 1 - k] = max(best_W[older - 1 - k], worth)
        for k in range(steps):
            sum_K[k] /= np.float32(max(1, count - 1 - k))
        total = np.float32(0)
        for w in range(count - 1):
            total += best_W[w]
        out_BC[b, first + steps] = total / np.float32(max(1, count - 1))


@compiled(
    numba.void(
        _MATRIX, *(_VECTOR, _VECTOR, _MATRIX, _VECTOR, _MATRIX, _VECTOR), numba.float32, _OUT
    ),
    fastmath={"reassoc", "contract"},  # sums in whatever order is quick
)
def forward(  # type: ignore[no-untyped-def]
    features_BC, mean_C, scale_C, hidden_RC, hidden_bias_R, output_SR, output_bias_S, limit,
    quality_BS,
):  # fmt: skip
    """Write the quality of each submodel: see `models.router.Router`."""
    standard_C = np.empty(len(mean_C), dtype=np.float32)
    for b in range(len(features_BC)):
        for c in range(len(mean_C)):
            value = (features_BC[b, c] - mean_C[c]) / scale_C[c]
            standard_C[c] = min(max(value, -limit), limit)
        for s in range(len(output_bias_S)):
            quality_BS[b, s] = output_bias_S[s]
        for r in range(len(hidden_bias_R)):
            total = hidden_bias_R[r]
            for c in range(len(standard_C)):
                total += hidden_RC[r, c] * standard_C[c]
            if total > 0:
                for s in range(len(output_bias_S)):
                    quality_BS[b, s] += output_SR[s, r] * total

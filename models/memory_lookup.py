"""The transition memory as it is read while serving: plain arrays, the whole batch at once."""

# B batch, W window, V columns of a score buffer, N entries

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.memory import TransitionMemory

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bonus:
    """What the memory adds to a flat (B * V) score buffer: `values_N` at `keys_N`.

    A key that stands several times stands with the same value each time and is added once.
    """

    keys_N: Ids
    values_N: Floats

    def add_to(self, flat: Floats) -> None:
        """Add the values to the flat buffer in place."""
        flat[self.keys_N] = flat.take(self.keys_N) + self.values_N


class MemoryLookup:
    """Reads one memory; the three arrays are shared with it, not copied."""

    def __init__(self, memory: TransitionMemory) -> None:
        self.window = memory.config.window
        self._offsets = memory.offsets.numpy()
        self._items = memory.items.numpy()
        self._weights = memory.weights.numpy()
        self._per_age_W = (1.0 / np.arange(1, self.window + 1)).astype(np.float32)

    def bonus(self, recent_BW: Ids, gains_B: Floats, scratch_BV: Floats) -> Bonus:
        """Return gain * log(1 + evidence) for every known entry.

        `recent_BW` int64: newest item first, padded with 0. `scratch_BV` float32, contiguous, is
        where evidence is summed; what stands there is lost.
        """
        batch, window = recent_BW.shape
        flat_C = recent_BW.ravel()
        starts_C = self._offsets.take(flat_C)
        counts_C = self._offsets.take(flat_C + 1) - starts_C
        ends_C = np.cumsum(counts_C)
        total = int(ends_C[-1])
        places_N = np.repeat(starts_C - (ends_C - counts_C), counts_C)
        places_N += np.arange(total, dtype=places_N.dtype)
        weights_N = self._weights.take(places_N)
        weights_N *= np.repeat(np.tile(self._per_age_W[:window], batch), counts_C)
        counts_B = counts_C.reshape(batch, window).sum(axis=1)
        keys_N = np.repeat(np.arange(batch) * scratch_BV.shape[1], counts_B)
        keys_N += self._items.take(places_N)
        scratch = scratch_BV.reshape(-1)
        scratch[keys_N] = 0.0
        np.add.at(scratch, keys_N, weights_N)
        # torch's logarithm is several times faster than numpy's.
        values_N: Floats = torch.log1p(torch.from_numpy(scratch.take(keys_N))).numpy()
        values_N *= np.repeat(gains_B, counts_B)
        return Bonus(keys_N=keys_N, values_N=values_N)


def newest(item_ids_BL: Ids, lengths_B: Ids, window: int) -> Ids:
    """Return the newest `window` items of right-padded histories, newest first, 0 if fewer."""
    places_BW = lengths_B[:, None] - 1 - np.arange(window)
    picked_BW = np.take_along_axis(item_ids_BL, places_BW.clip(0, item_ids_BL.shape[1] - 1), axis=1)
    return np.where(places_BW >= 0, picked_BW, 0)

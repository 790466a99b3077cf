"""The transition memory as it is read while serving: plain arrays, the whole batch at once."""

# B batch, W window, V columns of a score buffer, N entries, R distinct rows

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Additions:
    """What the memory adds to one history's scores: `values_R` at `rows_R`, distinct, ascending."""

    rows_R: Ids
    values_R: Floats
    entries: int
    """Entries that were read and summed."""


class MemoryLookup:
    """Reads one memory; the three arrays are shared with it, not copied."""

    def __init__(self, memory: TransitionMemory) -> None:
        self.window = memory.config.window
        self.num_items = memory.num_items
        self._offsets = memory.offsets.numpy()
        self._items = memory.items.numpy()
        self._weights = memory.weights.numpy()
        self._per_age_W = (1.0 / np.arange(1, self.window + 1)).astype(np.float32)
        self._per_age = self._per_age_W
        """The same again and again, for a batch as large as any so far."""

    def bonus(self, recent_BW: Ids, gains_B: Floats, scratch_BV: Floats) -> Bonus:
        """Return gain * log(1 + evidence) for every known entry.

        `recent_BW` int64: newest item first, padded with 0. `scratch_BV` float32, contiguous, is
        where evidence is summed; what stands there is lost.
        """
        items_N, weights_N, counts_B = self._evidence(recent_BW)
        keys_N = np.repeat(np.arange(len(recent_BW)) * scratch_BV.shape[1], counts_B)
        keys_N += items_N
        scratch = scratch_BV.reshape(-1)
        scratch[keys_N] = 0.0
        np.add.at(scratch, keys_N, weights_N)
        values_N = _log1p(scratch.take(keys_N))
        values_N *= np.repeat(gains_B, counts_B)
        return Bonus(keys_N=keys_N, values_N=values_N)

    def additions(self, recent_BW: Ids, gains_B: Floats) -> list[Additions]:
        """Return what `bonus` adds, history by history and bit for bit, without a scratch.

        Costs as much as the entries read, whatever the size of the catalog.
        """
        items_N, weights_N, counts_B = self._evidence(recent_BW)
        rows = self.num_items + 1
        keys_N = np.repeat(np.arange(len(recent_BW)) * rows, counts_B) + items_N
        keys_R, places_N = np.unique(keys_N, return_inverse=True)
        evidence_R = np.zeros(len(keys_R), dtype=np.float32)
        np.add.at(evidence_R, places_N, weights_N)
        values_R = _log1p(evidence_R)
        owners_R, rows_R = np.divmod(keys_R, rows)
        values_R *= gains_B[owners_R]
        ends = np.searchsorted(owners_R, np.arange(1, len(recent_BW)))
        return [
            Additions(rows_R=some_rows, values_R=values, entries=entries)
            for some_rows, values, entries in zip(
                np.split(rows_R, ends), np.split(values_R, ends), counts_B.tolist(), strict=True
            )
        ]

    def _evidence(self, recent_BW: Ids) -> tuple[Ids, Floats, Ids]:
        """Return (items_N, weights_N by age, entries of each history), unsummed."""
        batch, window = recent_BW.shape
        flat_C = recent_BW.ravel()
        starts_C = self._offsets.take(flat_C)
        counts_C = self._offsets.take(flat_C + 1) - starts_C
        ends_C = np.cumsum(counts_C)
        total = int(ends_C[-1])
        places_N = np.repeat(starts_C - (ends_C - counts_C), counts_C)
        places_N += np.arange(total, dtype=places_N.dtype)
        weights_N = self._weights.take(places_N)
        weights_N *= np.repeat(self._ages(batch, window), counts_C)
        counts_B = counts_C.reshape(batch, window).sum(axis=1)
        return self._items.take(places_N), weights_N, counts_B

    def _ages(self, batch: int, window: int) -> Floats:
        """Return what each cell of (batch, window) weighs by its age, flat."""
        if window != self.window:
            return np.tile(self._per_age_W[:window], batch)
        if len(self._per_age) < batch * window:
            self._per_age = np.tile(self._per_age_W, batch)
        return self._per_age[: batch * window]


def _log1p(evidence: Floats) -> Floats:
    # torch's logarithm is several times faster than numpy's.
    logs: Floats = torch.log1p(torch.from_numpy(evidence)).numpy()
    return logs


def newest(item_ids_BL: Ids, lengths_B: Ids, window: int) -> Ids:
    """Return the newest `window` items of right-padded histories, newest first, 0 if fewer."""
    places_BW = lengths_B[:, None] - 1 - np.arange(window)
    picked_BW = np.take_along_axis(item_ids_BL, places_BW.clip(0, item_ids_BL.shape[1] - 1), axis=1)
    return np.where(places_BW >= 0, picked_BW, 0)

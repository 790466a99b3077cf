"""The transition memory as it is read while serving: plain arrays, the whole batch at once."""

# B batch, W window, V catalog rows with padding, T most entries of one history, R distinct rows

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.arrays import Floats, Ids
from models.memory import TransitionMemory


@dataclass(frozen=True, slots=True, kw_only=True)
class Additions:
    """What the memory adds to one history's scores: `values_R` at `rows_R`, distinct, ascending."""

    rows_R: Ids
    values_R: Floats
    entries: int
    """Entries that were read and summed."""


class MemoryLookup:
    """Reads one memory; the three arrays are shared with it, not copied. For one thread at a time.

    Everywhere `recent_BW` int64 is the window's items, newest first, padded with 0, and `gains_B`
    float32 the gain of each history's submodel.
    """

    def __init__(self, memory: TransitionMemory) -> None:
        from models.kernels.memory import add

        self._add = add
        self.window = memory.config.window
        self._most = memory.flops(self.window) // 2
        per_age_W = (1.0 / np.arange(1, self.window + 1)).astype(np.float32)
        arrays = (memory.offsets.numpy(), memory.items.numpy(), memory.weights.numpy())
        self._memory = (*arrays, per_age_W)
        self._scratch = (
            np.zeros(memory.num_items + 1, dtype=np.float32),
            np.empty(self._most, dtype=np.int64),
        )

    def add_to(self, scores_BV: Floats, recent_BW: Ids, gains_B: Floats) -> None:
        """Add gain * log(1 + evidence) in place to contiguous scores, at least V columns wide."""
        self._add(*self._memory, recent_BW, gains_B, *self._scratch, scores_BV)

    def additions(self, recent_BW: Ids, gains_B: Floats) -> list[Additions]:
        """Return what `add_to` adds, history by history and bit for bit.

        Costs as much as the entries read, whatever the size of the catalog.
        """
        from models.kernels.additions import additions

        batch = len(recent_BW)
        rows_R: Ids = np.empty(batch * self._most, dtype=np.int64)
        values_R: Floats = np.empty(batch * self._most, dtype=np.float32)
        counts_B2 = np.empty((batch, 2), dtype=np.int64)
        additions(*self._memory, recent_BW, gains_B, *self._scratch, rows_R, values_R, counts_B2)
        found = []
        start = 0
        for count, entries in counts_B2.tolist():
            stop = start + count
            found.append(
                Additions(rows_R=rows_R[start:stop], values_R=values_R[start:stop], entries=entries)
            )
            start = stop
        return found


def newest(item_ids_BL: Ids, lengths_B: Ids, window: int) -> Ids:
    """Return the newest `window` items of right-padded histories, newest first, 0 if fewer."""
    places_BW = lengths_B[:, None] - 1 - np.arange(window)
    picked_BW = np.take_along_axis(item_ids_BL, places_BW.clip(0, item_ids_BL.shape[1] - 1), axis=1)
    return np.where(places_BW >= 0, picked_BW, 0)

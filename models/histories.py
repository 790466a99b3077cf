"""A batch of histories as the network reads them: newest first, or stacked and padded."""

# B histories, M members of a group, N items of all histories, W window, L length

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from models.arrays import Ids

History = Sequence[int] | Ids


class Histories:
    """Known items of each history, int64 table rows, oldest first; a history may be empty."""

    def __init__(self, histories: Sequence[History]) -> None:
        from models.kernels import histories as kernel

        self._kernel = kernel
        bounds = [0, *accumulate(map(len, histories))]
        self._bounds_B = np.array(bounds, dtype=np.int64)
        self._flat_N: Ids = np.empty(bounds[-1], dtype=np.int64)
        if bounds[-1]:
            np.concatenate(histories, out=self._flat_N, casting="unsafe")

    def __len__(self) -> int:
        return len(self._bounds_B) - 1

    def newest(self, window: int) -> Ids:
        """Return (B, window) int64: the newest items, newest first, 0 where there are fewer."""
        recent_BW = np.empty((len(self), window), dtype=np.int64)
        self._kernel.newest(self._flat_N, self._bounds_B, recent_BW)
        return recent_BW

    def stack(self, length: int, members: Sequence[int] | None = None) -> tuple[Ids, Ids]:
        """Return (item_ids_ML, lengths_M) int64 of the newest `length` items, right-padded with 0.

        `members` are places of histories; all of them in their order by default.
        """
        places_M = np.arange(len(self)) if members is None else np.array(members, dtype=np.int64)
        ids_ML = np.empty((len(places_M), length), dtype=np.int64)
        lengths_M = np.empty(len(places_M), dtype=np.int64)
        self._kernel.stack(self._flat_N, self._bounds_B, places_M, ids_ML, lengths_M)
        return ids_ML, lengths_M

"""Item sequences of many users without padding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sequences:
    """Sequence `i` is `items[offsets[i]:offsets[i + 1]]`, oldest first.

    offsets: (sequences + 1,) int64. items: (n,) int64 table rows, 1 and up: no padding.
    """

    offsets: NDArray[np.int64]
    items: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> NDArray[np.int64]:
        """Return sequence `index` as a view; IndexError outside 0..len(self) - 1."""
        if not 0 <= index < len(self):
            raise IndexError(f"sequence {index} of {len(self)}")
        return self.items[self.offsets[index] : self.offsets[index + 1]]

    def lengths(self) -> NDArray[np.int64]:
        """Return (sequences,) int64."""
        return np.diff(self.offsets)


def gather(
    items: NDArray[np.int64], starts: NDArray[np.int64], stops: NDArray[np.int64]
) -> Sequences:
    """Return the stretches items[starts[i]:stops[i]] as sequences of their own."""
    lengths = stops - starts
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
    return Sequences(offsets=offsets, items=items[places])

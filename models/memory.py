"""The transition memory: what followed each item, a sparse term of every submodel's scores.

For a history whose newest items are i_1 (newest), i_2, ..., i_w the evidence of item v is
`S(v) = sum_a weights[i_a, v] / a`, and every submodel adds `memory_gain * log(1 + S(v))` to its
score of v, with a gain of its own. A submodel that reads fewer than `window` items looks up no more
than it reads. A few row reads and no product, so small submodels gain most. Rows keep the
`row_limit` heaviest successors.
"""

# N entries, W window, B batch, V catalog rows with padding

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.config import MemoryConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class TransitionMemory:
    """Compact rows: row i's successors are `items[offsets[i]:offsets[i + 1]]`.

    offsets (num_items + 2,) int32, items (N,) int32 in 1..num_items, weights (N,) float32 > 0.
    """

    config: MemoryConfig
    offsets: Tensor
    items: Tensor
    weights: Tensor

    @property
    def num_items(self) -> int:
        """Real items, padding excluded."""
        return len(self.offsets) - 2

    @property
    def num_bytes(self) -> int:
        """Resident bytes of the three arrays."""
        return sum(t.numel() * t.element_size() for t in (self.offsets, self.items, self.weights))

    def entries(self, recent_BW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (rows_N int64, items_N int64, weights_N float32) of the evidence, unsummed.

        `recent_BW` is int64, newest item first, padded with 0; column a weighs 1 / (a + 1).
        An item may stand several times in one row: its evidence is the sum.
        """
        batch, window = recent_BW.shape
        flat = recent_BW.reshape(-1)
        starts = self.offsets[flat].long()
        counts = self.offsets[flat + 1].long() - starts
        cells = torch.repeat_interleave(torch.arange(batch * window), counts)
        before = torch.cumsum(counts, 0) - counts
        places = torch.arange(len(cells)) - before[cells] + starts[cells]
        age = cells % window + 1
        rows = torch.div(cells, window, rounding_mode="floor")
        return rows, self.items[places].long(), self.weights[places] / age

    def flops(self, reads: int) -> int:
        """The most FLOPs one history can cost: multiply and add for each entry read.

        `reads` is how many items the submodel reads; the memory reads no more.
        """
        return 2 * min(reads, self.config.window) * self.longest_row

    @property
    def longest_row(self) -> int:
        """The most successors that any item has."""
        return int((self.offsets[1:] - self.offsets[:-1]).max()) if len(self.items) else 0

"""How little the transition memory is surprised by a history: what a thread of interest looks like.

Who goes on from one item to the next walks along the memory's heaviest successors; who follows
several threads at once goes on from what stands further back. So the router is told, of the newest
items, the weight that each has in the rows of those before it, step by step.
"""

# B batch, W newest items read, C features

from __future__ import annotations

import numpy as np

from models.arrays import Floats, Ids
from models.memory import TransitionMemory

STEPS = 4
SURPRISE_FEATURES = STEPS + 1


class Surprise:
    """Looks up the newest items of histories in the rows of those before them. Deterministic.

    The memory's arrays are shared, not copied.
    """

    def __init__(self, memory: TransitionMemory) -> None:
        from models.kernels import routing

        self._kernel = routing.surprise
        self._arrays = (memory.offsets.numpy(), memory.items.numpy(), memory.weights.numpy())
        self._longest = memory.longest_row

    def flops(self, window: int) -> int:
        """The most FLOPs that one history of `window` items costs: two for each entry read."""
        return 2 * max(0, window - 1) * self._longest

    def write(self, recent_BW: Ids, out_BC: Floats) -> None:
        """Write SURPRISE_FEATURES numbers of each history into the last columns of `out_BC`.

        `recent_BW` int64: newest item first, padded with 0. Number k of 0..STEPS-1 is the mean of
        log(1 + weight) over the pairs k + 1 steps apart, the weight being that of the newer item
        in the older one's row, 0 where it is not found. The last is the mean over all items but
        the oldest of the largest of these. Without a pair a number is 0.
        """
        first = out_BC.shape[1] - SURPRISE_FEATURES
        self._kernel(*self._arrays, recent_BW, STEPS, first, out_BC)

    def __call__(self, recent_BW: Ids) -> Floats:
        """Return what `write` writes, (B, SURPRISE_FEATURES) float32."""
        out_BC: Floats = np.empty((len(recent_BW), SURPRISE_FEATURES), dtype=np.float32)
        self.write(recent_BW, out_BC)
        return out_BC

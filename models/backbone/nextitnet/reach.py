"""Which positions a stack of dilated causal convolutions needs for the newest one's output.

A kernel of three taps and dilation l reads the offsets o, o + l and o + 2 l behind the newest item
to give its output at o. From the last layer's one output backwards this says where every layer has
to be computed, and nothing else is.
"""

# N positions of one layer, M positions of all layers together, T = 3 taps

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from models.arrays import Ids

TAPS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Where each layer is computed, for one padded length. Offsets count back from the newest."""

    offsets_N: Ids
    """Ascending offsets that are read of the input."""
    counts: Ids
    """Positions per convolution, in order; they sum to M."""
    taps_M3: Ids
    """Place of each tap among the positions of the convolution before, 0 beyond the length."""
    behind_M3: Ids
    """Offset of each tap; at or beyond a history's length there is nothing, which reads as 0."""
    kept_counts: Ids
    """Positions per residual block's output, in order."""
    kept: Ids
    """Place of each block's output positions among its input's."""


def block_dilations(dilations: Sequence[int], blocks: int) -> tuple[int, ...]:
    """Return the dilation of each block: the pattern over and over."""
    return tuple(dilations[block % len(dilations)] for block in range(blocks))


@lru_cache(maxsize=1024)
def reach(dilations: tuple[int, ...], length: int) -> Reach:
    """Return the reach of residual blocks of two convolutions, dilated by l and then 2 l.

    `dilations` are the blocks' l, the first block's first; `length` is the padded length.
    """
    wanted, taps, behind, kept = [0], [], [], []
    for dilation in reversed(dilations):
        outputs = wanted
        for step in (2 * dilation, dilation):
            read = [[offset + tap * step for tap in range(TAPS)] for offset in wanted]
            wanted = sorted({one for row in read for one in row if one < length})
            place = {offset: index for index, offset in enumerate(wanted)}
            taps.append([[place.get(one, 0) for one in row] for row in read])
            behind.append(read)
        kept.append([place[offset] for offset in outputs])
    for parts in (taps, behind, kept):
        parts.reverse()
    return Reach(
        offsets_N=np.array(wanted, dtype=np.int64),
        counts=np.array([len(rows) for rows in taps], dtype=np.int64),
        taps_M3=np.array([row for rows in taps for row in rows], dtype=np.int64),
        behind_M3=np.array([row for rows in behind for row in rows], dtype=np.int64),
        kept_counts=np.array([len(rows) for rows in kept], dtype=np.int64),
        kept=np.array([place for rows in kept for place in rows], dtype=np.int64),
    )

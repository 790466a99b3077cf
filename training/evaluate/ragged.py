"""Lists of different lengths as flat arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.data.sequences import Sequences

# One list of table rows per user.
Ragged = Sequences | Sequence[NDArray[np.integer]]


def flatten(lists: Ragged) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (offsets (lists + 1,), values (n,)), both int64, in the form of `Sequences`."""
    if isinstance(lists, Sequences):
        return lists.offsets, lists.items
    offsets = np.zeros(len(lists) + 1, dtype=np.int64)
    np.cumsum([len(one) for one in lists], out=offsets[1:])
    values = np.concatenate(lists) if len(lists) else np.empty(0)
    return offsets, values.astype(np.int64, copy=False)

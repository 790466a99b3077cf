"""Build the transition memory that is served, and the cross-fitted ones that training sees."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from models.config import MemoryConfig
from models.memory import TransitionMemory
from training.data.sequences import Sequences
from training.data.transitions import count_transitions

# As much must have followed an item for its shares to count by half.
_DOUBT = 20.0
_PERCENT = 100.0


def build_memory(
    training: Sequences,
    *,
    num_items: int,
    config: MemoryConfig,
    users: NDArray[np.bool_] | None = None,
    scale: float = 1.0,
) -> TransitionMemory:
    """Return the memory counted on the given users (all of them by default), times `scale`.

    A weight is the share, in per cent, that the successor has of all that followed the item, and
    less where little did: 100 * count / (what followed + 20). Counts themselves would let the
    popular items among the newest drown the others.
    """
    counts = count_transitions(
        training.offsets,
        training.items,
        num_items=num_items,
        window=config.window,
        row_limit=config.row_limit,
        users=users,
    )
    weights = counts.weights.astype(np.float64) * scale
    owners = np.repeat(np.arange(num_items + 1), np.diff(counts.offsets))
    followed = np.bincount(owners, weights, minlength=num_items + 1)
    shares = _PERCENT * weights / (followed[owners] + _DOUBT)
    return TransitionMemory(
        config=config,
        offsets=torch.from_numpy(counts.offsets.astype(np.int32)),
        items=torch.from_numpy(counts.items.astype(np.int32)),
        weights=torch.from_numpy(shares.astype(np.float32)),
    )


def fold_memories(
    training: Sequences,
    folds_U: NDArray[np.int64],
    num_folds: int,
    *,
    num_items: int,
    config: MemoryConfig,
) -> list[TransitionMemory]:
    """Return one memory per fold, counted on everybody outside it and scaled to the whole.

    A training target of a user in fold f looked up in memory f has never seen its own count.
    """
    return [
        build_memory(
            training,
            num_items=num_items,
            config=config,
            users=folds_U != fold,
            scale=num_folds / (num_folds - 1),
        )
        for fold in range(num_folds)
    ]

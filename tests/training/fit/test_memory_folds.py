"""The memory holds what followed an item as shares, and a fold's memory has not seen the fold."""

from __future__ import annotations

import numpy as np
import pytest

from models.config import MemoryConfig
from models.memory import TransitionMemory
from training.data.sequences import Sequences
from training.fit.memory_folds import build_memory, fold_memories

CONFIG = MemoryConfig(window=2, row_limit=8)


def sequences(*histories: list[int]) -> Sequences:
    return Sequences(
        offsets=np.cumsum([0, *map(len, histories)], dtype=np.int64),
        items=np.array([item for history in histories for item in history], dtype=np.int64),
    )


def row(memory: TransitionMemory, item: int) -> dict[int, float]:
    first, last = int(memory.offsets[item]), int(memory.offsets[item + 1])
    return dict(
        zip(memory.items[first:last].tolist(), memory.weights[first:last].tolist(), strict=True)
    )


def test_weights_are_doubted_per_cent_by_hand() -> None:
    """After item 1 came item 2 thirty times and, two steps on, item 3 thirty times: 30 and 15."""
    memory = build_memory(sequences(*[[1, 2, 3]] * 30), num_items=4, config=CONFIG)
    assert row(memory, 1) == pytest.approx({2: 100 * 30 / 65, 3: 100 * 15 / 65})
    assert row(memory, 2) == pytest.approx({3: 100 * 30 / 50})
    assert row(memory, 3) == row(memory, 4) == {}


def test_one_count_is_no_certainty() -> None:
    often = build_memory(sequences(*[[1, 2]] * 60), num_items=2, config=CONFIG)
    once = build_memory(sequences([1, 2]), num_items=2, config=CONFIG)
    assert row(often, 1)[2] == pytest.approx(75)
    assert row(once, 1)[2] == pytest.approx(100 / 21)


def test_a_fold_has_not_counted_its_own_users() -> None:
    folds = fold_memories(
        sequences([1, 2], [3, 4]), np.array([0, 1]), 2, num_items=4, config=CONFIG
    )
    assert row(folds[0], 1) == row(folds[1], 3) == {}
    assert row(folds[0], 3) == pytest.approx({4: 100 * 2 / 22})

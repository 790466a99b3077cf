"""Transition counts: worked by hand, and against counting pair by pair."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data import transitions
from training.data.transitions import TransitionCounts, count_transitions


def flat(sequences: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.cumsum([0] + [len(sequence) for sequence in sequences]).astype(np.int64)
    return offsets, np.array([item for sequence in sequences for item in sequence], np.int64)


def count(sequences: list[list[int]], **arguments: object) -> TransitionCounts:
    offsets, items = flat(sequences)
    return count_transitions(offsets, items, **arguments)  # type: ignore[arg-type]


def rows(counts: TransitionCounts) -> list[list[tuple[int, float]]]:
    return [
        [(int(item), float(weight)) for item, weight in zip(*counts.row(index), strict=True)]
        for index in range(counts.num_items + 1)
    ]


def brute_force(
    sequences: list[list[int]], num_items: int, window: int, row_limit: int | None
) -> list[list[tuple[int, float]]]:
    exact: list[dict[int, Fraction]] = [defaultdict(Fraction) for _ in range(num_items + 1)]
    for sequence in sequences:
        for later in range(len(sequence)):
            for distance in range(1, min(window, later) + 1):
                exact[sequence[later - distance]][sequence[later]] += Fraction(1, distance)
    return [
        [
            (item, float(np.float32(float(weight))))
            for item, weight in sorted(row.items(), key=lambda pair: (-pair[1], pair[0]))
        ][:row_limit]
        for row in exact
    ]


def test_counts_worked_by_hand() -> None:
    counts = count([[1, 2, 3], [1, 3], [4]], num_items=4, window=2)
    # 1 is followed by 2 (distance 1), by 3 at distance 2 (1/2) and by 3 at distance 1 (1).
    assert rows(counts) == [[], [(3, 1.5), (2, 1.0)], [(3, 1.0)], [], []]
    assert counts.offsets.tolist() == [0, 0, 2, 3, 3, 3]
    assert counts.offsets.dtype == np.dtype(np.int64)
    assert counts.items.dtype == np.dtype(np.int32)
    assert counts.weights.dtype == np.dtype(np.float32)


def test_equal_weights_are_ordered_by_item() -> None:
    assert rows(count([[1, 3], [1, 2]], num_items=3, window=1))[1] == [(2, 1.0), (3, 1.0)]


def test_an_item_that_follows_itself_counts() -> None:
    assert rows(count([[2, 2, 2]], num_items=2, window=2))[2] == [(2, 2.5)]


def test_no_pair_crosses_from_one_user_to_the_next() -> None:
    assert rows(count([[1], [2], [], [3]], num_items=3, window=3)) == [[], [], [], []]


def test_the_row_limit_keeps_the_heaviest() -> None:
    counts = count([[1, 2], [1, 3], [1, 3], [2, 1]], num_items=3, window=1, row_limit=1)
    assert rows(counts) == [[], [(3, 2.0)], [(1, 1.0)], []]


def test_only_chosen_users_count() -> None:
    counts = count([[1, 2], [1, 3]], num_items=3, window=1, users=np.array([False, True]))
    assert rows(counts)[1] == [(3, 1.0)]
    nobody = count([[1, 2]], num_items=2, window=1, users=np.array([False]))
    assert nobody.offsets.tolist() == [0, 0, 0, 0]


def test_no_interactions_give_empty_rows() -> None:
    assert count([], num_items=2, window=5).offsets.tolist() == [0, 0, 0, 0]


@given(
    data=st.data(),
    num_items=st.integers(1, 8),
    window=st.integers(1, 6),
    row_limit=st.none() | st.integers(1, 4),
    chunk=st.sampled_from([1, 7, 30, 8_000_000]),
)
@settings(max_examples=150, deadline=None)
def test_counts_equal_counting_pair_by_pair(
    data: st.DataObject, num_items: int, window: int, row_limit: int | None, chunk: int
) -> None:
    """For any chunk size, so that merging changes nothing."""
    sequences = data.draw(st.lists(st.lists(st.integers(1, num_items), max_size=12), max_size=6))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transitions, "_CHUNK_PAIRS", chunk)
        counts = count(sequences, num_items=num_items, window=window, row_limit=row_limit)
    assert rows(counts) == brute_force(sequences, num_items, window, row_limit)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 0}, "window is 0; it must be at least 1"),
        ({"row_limit": 0}, "row_limit is 0"),
        ({"num_items": 0}, "num_items is 0"),
        ({"num_items": 2}, "items span 1 to 3; rows must lie in 1..2"),
        ({"num_items": 2**31 - 2, "window": 4}, "overflows the 64-bit keys"),
        ({"users": np.array([True, False])}, "users is bool of shape"),
        ({"users": np.array([1])}, "users is int64"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        count([[1, 2, 3]], **({"num_items": 3, "window": 1} | arguments))


def test_offsets_that_do_not_cover_the_items_are_refused() -> None:
    with pytest.raises(ValueError, match="offsets must rise from 0"):
        count_transitions(np.array([0, 1]), np.array([1, 2]), num_items=2, window=1)
    with pytest.raises(ValueError, match="offsets must rise from 0"):
        count_transitions(np.array([0, 2, 1, 2]), np.array([1, 2]), num_items=2, window=1)
    with pytest.raises(ValueError, match="have shapes"):
        count_transitions(np.zeros((1, 2), np.int64), np.array([1]), num_items=2, window=1)

"""Held-out users: drawn by seed, never everybody, and their later positions become cases."""

from __future__ import annotations

import numpy as np
import pytest

from training.data.sequences import Sequences
from training.fit.held_out import held_out_cases, hold_out

TRAINING = Sequences(
    offsets=np.array([0, 4, 5, 5, 9], dtype=np.int64),
    items=np.array([1, 2, 3, 4, 5, 6, 7, 8, 9], dtype=np.int64),
)


def test_the_share_is_met_and_the_seed_decides() -> None:
    one = hold_out(100, 0.12, 0)
    assert one.sum() == 12
    assert np.array_equal(one, hold_out(100, 0.12, 0))
    assert not np.array_equal(one, hold_out(100, 0.12, 1))


@pytest.mark.parametrize(("users", "share"), [(1, 0.5), (3, 0.0), (2, 0.5)])
def test_somebody_is_always_left_to_learn_from(users: int, share: float) -> None:
    held = hold_out(users, share, 0)
    assert held.sum() <= users - 1
    assert held.sum() <= share * users + 0.5


def test_cases_are_the_later_positions_of_held_users() -> None:
    held = np.array([True, True, True, False])
    cases = held_out_cases(TRAINING, held, most=10, seed=0)
    assert [
        history.tolist() for history in map(cases.histories.__getitem__, range(len(cases)))
    ] == [
        [1, 2],
        [1, 2, 3],
    ]
    assert cases.targets.tolist() == [3, 4]
    assert cases.users.tolist() == [0, 0]


def test_at_most_so_many_are_drawn_and_in_order() -> None:
    held = np.array([True, False, False, True])
    cases = held_out_cases(TRAINING, held, most=3, seed=0)
    assert len(cases) == 3
    assert sorted(cases.users.tolist()) == cases.users.tolist()


def test_nobody_held_out_gives_no_cases() -> None:
    assert len(held_out_cases(TRAINING, np.zeros(4, dtype=np.bool_), most=10, seed=0)) == 0

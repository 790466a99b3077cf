"""Groups divide all cases, equal values stay together, and a loser is seen."""

from __future__ import annotations

import numpy as np
import pytest

from training.data.sequences import Sequences
from training.data.split import EvalCases
from training.evaluate.groups import Group, complexity, groups

TABLE = np.array([[0, 0], [1, 0], [0, 1], [-1, 0], [2, 0]], dtype=np.float32)


def cases(*histories: list[int], targets: list[int] | None = None) -> EvalCases:
    return EvalCases(
        histories=Sequences(
            offsets=np.cumsum([0, *map(len, histories)]).astype(np.int64),
            items=np.concatenate(histories).astype(np.int64),
        ),
        targets=np.array(targets or [1] * len(histories), dtype=np.int64),
        users=np.arange(len(histories)),
    )


def by(found: tuple[Group, ...], name: str) -> list[Group]:
    return [group for group in found if group.by == name]


def test_complexity_is_how_little_neighbours_resemble_each_other() -> None:
    found = complexity(cases([1], [1, 4], [1, 2], [1, 3], [1, 2, 2]), TABLE)
    assert found == pytest.approx([0.0, 0.0, 1.0, 2.0, 0.5])


def test_every_case_stands_in_one_group_of_each_kind() -> None:
    rng = np.random.default_rng(0)
    histories = [rng.integers(1, 5, int(rng.integers(1, 30))).tolist() for _ in range(101)]
    made = cases(*histories, targets=rng.integers(1, 5, 101).tolist())
    found = groups(made, TABLE, full_U=np.ones(101), routed_U=np.ones(101))
    for kind in ("length", "popularity", "complexity"):
        assert sum(group.cases for group in by(found, kind)) == 101
    assert all(group.relative == 0.0 for group in found)


def test_equal_values_stay_together_and_a_loser_is_seen() -> None:
    made = cases([1], [1], [1], [1, 2, 1, 2])
    full_U, routed_U = np.array([1.0, 1.0, 1.0, 1.0]), np.array([1.0, 1.0, 1.0, 0.5])
    found = by(groups(made, TABLE, full_U=full_U, routed_U=routed_U), "length")
    assert [(group.cases, group.relative) for group in found] == [(3, 0.0), (1, -0.5)]


def test_a_group_that_full_never_gets_right_has_no_relative() -> None:
    made = cases([1], [1, 2])
    found = groups(made, TABLE, full_U=np.zeros(2), routed_U=np.ones(2))
    assert {group.relative for group in found} == {None}

from __future__ import annotations

import numpy as np
import pytest

from training.data.interactions import make_interactions
from training.data.profile import profile


def test_figures_by_hand() -> None:
    data = make_interactions(["a"] * 4 + ["b"] * 2, ["p", "q", "p", "r", "p", "q"])
    found = profile(data)
    assert (found.users, found.items, found.interactions) == (2, 3, 6)
    assert (found.mean_length, found.median_length, found.max_length) == (3.0, 3.0, 4)
    assert found.p95_length == pytest.approx(3.9)
    assert found.density == 1.0
    assert found.repeat_share == pytest.approx(1 / 6)
    assert found.top_item_share == 0.5
    assert found.kind == "session-like"
    assert not found.exclude_seen
    assert "session-like data: 6 interactions" in found.summary()


def test_small_data_is_told_by_its_rows() -> None:
    users = np.char.mod("%d", np.arange(5_000) // 50).tolist()
    items = np.char.mod("%d", np.arange(5_000) % 97).tolist()
    assert profile(make_interactions(users, items)).kind == "small"


@pytest.mark.parametrize(("length", "kind"), [(4, "session-like"), (50, "long-history")])
def test_kinds_of_larger_data(length: int, kind: str) -> None:
    rows = 260_000
    users = np.char.mod("%d", np.arange(rows) // length).tolist()
    items = np.char.mod("%d", np.arange(rows) % 97).tolist()
    assert profile(make_interactions(users, items)).kind == kind

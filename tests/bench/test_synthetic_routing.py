"""The score of `bench synthetic-routing` is its definition, and the whole of it runs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.__main__ import main
from bench.synthetic_routing import auc, expected_compute, with_interval


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=30))
def test_auc_is_the_chance_that_a_positive_is_ahead(cases: list[tuple[int, bool]]) -> None:
    score_U = np.array([score for score, _ in cases], dtype=np.float64)
    positive_U = np.array([positive for _, positive in cases])
    ups, downs = score_U[positive_U], score_U[~positive_U]
    found = auc(score_U, positive_U)
    if not len(ups) or not len(downs):
        assert math.isnan(found)
        return
    ahead = (ups[:, None] > downs).mean() + 0.5 * (ups[:, None] == downs).mean()
    assert found == pytest.approx(ahead)


def test_the_interval_holds_the_score() -> None:
    score_U = np.arange(200.0)
    score, low, high = with_interval(score_U, score_U % 3 + score_U / 100 > 2)
    assert 0.5 < low < score < high < 1


def test_expected_compute_follows_what_more_compute_brings() -> None:
    gain_U = np.array([-0.1, 0.02, 0.05, 0.3])
    quality_US = np.stack([np.full(4, 0.4), 0.4 + gain_U], axis=1).astype(np.float32)
    cost_US = np.tile(np.array([0.1, 1.0], dtype=np.float32), (4, 1))
    found_U = expected_compute(quality_US, cost_US)
    assert found_U[0] == pytest.approx(0.1)
    assert (np.diff(found_U) > 0).all()


@pytest.mark.long
def test_it_trains_measures_and_measures_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["synthetic-routing", "--quick", "--json", "--work", str(tmp_path)]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert {row["tier"] for row in told["rows"]} == {"simple", "medium", "complex"}
    assert [line.split(":")[0] for line in told["findings"]] == [
        f"Users {kind}, routed over {choice}"
        for kind in ("kept out of training", "trained on")
        for choice in ("smallest and full", "all")
    ]
    versions = sorted(one.name for one in (tmp_path / "checkpoints").iterdir())
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out) == told
    assert sorted(one.name for one in (tmp_path / "checkpoints").iterdir()) == versions

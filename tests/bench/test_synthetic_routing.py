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
from bench.synthetic_routing import auc, with_interval


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


@pytest.mark.long
def test_it_trains_measures_and_measures_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["synthetic-routing", "--quick", "--json", "--work", str(tmp_path)]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert {row["tier"] for row in told["rows"]} == {"simple", "medium", "complex"}
    assert [line.split(":")[0] for line in told["findings"]] == [
        "Users kept out of training",
        "Users trained on",
    ]
    versions = sorted(one.name for one in (tmp_path / "checkpoints").iterdir())
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out) == told
    assert sorted(one.name for one in (tmp_path / "checkpoints").iterdir()) == versions

"""Published floors on real data, where the development copies are at hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.data.interactions import read_interactions
from training.data.split import leave_one_out
from training.evaluate.baselines import Markov, Popularity, Window, baseline_ranks
from training.evaluate.metrics import hr_at, ndcg_at

SHARED = Path(__file__).parents[4] / "shared" / "data"


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the development data beside the repository")
@pytest.mark.parametrize(
    ("name", "floors"),
    [
        (
            "ml-100k",
            {Popularity: (0.0838, 0.0436), Markov: (0.1442, 0.0766), Window: (0.1972, 0.1033)},
        ),
        (
            "ml-1m",
            {Popularity: (0.0369, 0.0180), Markov: (0.2134, 0.1249), Window: (0.2462, 0.1430)},
        ),
        (
            "beauty",
            {Popularity: (0.0110, 0.0053), Markov: (0.0666, 0.0439), Window: (0.0818, 0.0505)},
        ),
    ],
)
def test_floors_are_reproduced(
    name: str, floors: dict[type[Popularity | Markov | Window], tuple[float, float]]
) -> None:
    """HR@10 and NDCG@10 to the four places they were given with."""
    split = leave_one_out(read_interactions(SHARED / name / "interactions.parquet"))
    cases = split.open_test()
    for kind, expected in floors.items():
        baseline = kind(split.training, num_items=len(split.catalog))
        ranks = baseline_ranks(baseline, cases, exclude_seen=True)
        found = (float(hr_at(ranks, 10).mean()), float(ndcg_at(ranks, 10).mean()))
        assert found == pytest.approx(expected, abs=6e-5), (name, kind.__name__)

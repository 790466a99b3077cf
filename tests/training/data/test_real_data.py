"""Published figures of data sets that lie beside a checkout, where they do."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.data.interactions import read_interactions
from training.data.profile import profile
from training.data.split import leave_one_out

DATA = Path(__file__).parents[4] / "shared" / "data"

# users, items, interactions, mean, median, 95th percentile, longest, density %, repeats %
FIGURES: dict[str, tuple[float, ...]] = {
    "ml-1m": (6_040, 3_416, 999_533, 165.5, 96, 556, 2_277, 4.844, 0),
    "ml-100k": (943, 1_682, 100_000, 106.0, 65, 311, 737, 6.305, 0),
    "beauty": (22_363, 12_101, 198_502, 8.9, 6, 21, 204, 0.073, 0),
    "beauty-bert4rec": (40_226, 54_542, 353_962, 8.8, 6, 20, 293, 0.016, 0),
    "diginetica": (202_633, 43_097, 982_961, 4.9, 4, 12, 70, 0.011, 15.9),
    "completejourney": (2_469, 68_509, 1_469_307, 595.1, 407, 1_752, 4_193, 0.869, 40.9),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_of_known_data(name: str) -> None:
    path = DATA / name / "interactions.parquet"
    if not path.exists():
        pytest.skip(f"{name} is not beside this checkout")
    data = read_interactions(path, strict=True)
    found = profile(data)
    figures: tuple[float, ...] = (
        *(found.users, found.items, found.interactions, round(found.mean_length, 1)),
        *(found.median_length, round(found.p95_length), found.max_length),
        *(round(100 * found.density, 3), round(100 * found.repeat_share, 1)),
    )
    assert figures == FIGURES[name]
    split = leave_one_out(data)
    long_users = found.users - data.report.short_users
    assert len(split.validation) == len(split.test) == long_users
    assert len(split.training.items) == found.interactions - 2 * long_users
    assert split.left_out == 0

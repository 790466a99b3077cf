from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from training.data.attributes import read_item_attributes
from training.data.errors import DataError
from training.data.interactions import read_interactions
from training.datasets.synthetic import (
    CLEAR_FOLLOW_RATES,
    REALISTIC_FOLLOW_RATES,
    Synthetic,
    SyntheticConfig,
    generate,
    write,
)

SMALL = SyntheticConfig(users=400, items=600, topics=12, seed=3)


@pytest.fixture(scope="module")
def small() -> Synthetic:
    return generate(SMALL)


def lengths(data: Synthetic) -> np.ndarray:
    return np.bincount(data.users, minlength=len(data.tiers))


def follows(data: Synthetic, tier: int) -> float:
    """Share of actions of a tier that follow the user's previous action."""
    same = data.users[1:] == data.users[:-1]
    of_tier = same & (data.tiers[data.users[1:]] == tier)
    hits = (data.followers[data.items[:-1]] == data.items[1:, None]).any(axis=1)
    return float(hits[of_tier].mean())


def test_a_seed_decides_everything(small: Synthetic) -> None:
    again = generate(SMALL)
    assert np.array_equal(small.items, again.items)
    assert np.array_equal(small.seconds, again.seconds)
    other = generate(SyntheticConfig(users=400, items=600, topics=12, seed=4))
    assert not np.array_equal(small.items[:100], other.items[:100])


def test_rows_are_sorted_within_the_year_and_nothing_repeats(small: Synthetic) -> None:
    step = np.diff(small.users)
    assert ((step > 0) | ((step == 0) & (np.diff(small.seconds) >= 0))).all()
    assert small.seconds.min() >= 1_704_067_200
    assert small.seconds.max() < 1_704_067_200 + 366 * 86_400
    pairs = small.users * 600 + small.items
    assert len(np.unique(pairs)) == len(pairs)


def test_tiers_differ_in_share_length_and_predictability(small: Synthetic) -> None:
    shares = np.bincount(small.tiers, minlength=3) / len(small.tiers)
    assert shares == pytest.approx([0.45, 0.35, 0.20], abs=0.08)
    medians = [float(np.median(lengths(small)[small.tiers == tier])) for tier in range(3)]
    assert medians[0] < medians[1] < medians[2]
    assert follows(small, 0) > follows(small, 2) + 0.2


def test_equal_lengths_hide_the_tier() -> None:
    data = generate(SyntheticConfig(users=900, items=600, topics=12, equal_lengths=True))
    medians = [float(np.median(lengths(data)[data.tiers == tier])) for tier in range(3)]
    assert max(medians) - min(medians) <= 6


def test_realistic_users_follow_less(small: Synthetic) -> None:
    data = generate(
        SyntheticConfig(
            users=400, items=600, topics=12, seed=3, follow_rates=REALISTIC_FOLLOW_RATES
        )
    )
    assert follows(data, 0) < follows(small, 0) - 0.2
    assert max(REALISTIC_FOLLOW_RATES) < min(CLEAR_FOLLOW_RATES)


def test_files_read_back_and_tiers_stand_apart(small: Synthetic, tmp_path: Path) -> None:
    interactions, items = write(small, tmp_path)
    data = read_interactions(interactions, strict=True)
    assert len(data) == len(small.users)
    assert data.has_times
    assert data.item_ids[0] == f"i{small.items[0] + 1:06d}"
    assert len(read_item_attributes(items)) == 600
    tiers = pq.read_table(tmp_path / "tiers.parquet")
    assert tiers.column_names == ["user_id", "tier"]
    assert tiers.num_rows == 400
    assert pq.read_schema(interactions).names == ["user_id", "item_id", "timestamp"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"users": 0}, "users is 0"),
        ({"items": 399}, "at least 10 for each topic"),
        ({"topics": 5}, "topics is 5"),
        ({"follow_rates": (0.1, 0.2, 1.5)}, "follow_rates"),
    ],
)
def test_what_cannot_be_made_is_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        SyntheticConfig(**options)  # type: ignore[arg-type]

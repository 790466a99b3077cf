from __future__ import annotations

import logging

import numpy as np
import pytest

from models.catalog import Catalog
from training.data.catalog_build import build_catalog, popular_items
from training.data.errors import DataError
from training.data.interactions import make_interactions
from training.data.sequences import Sequences
from training.data.split import EvalCases, leave_one_out, temporal

BASE = 1_600_000_000
DAY = 86_400


def rows_of(text: str) -> tuple[list[str], list[str]]:
    """`a:xyz b:x` as columns, one letter an item."""
    pairs = [(part[0], item) for part in text.split() for item in part[2:]]
    return [user for user, _ in pairs], [item for _, item in pairs]


def ids(catalog: Catalog, rows: np.ndarray) -> str:
    return "".join(catalog.external_id(int(row)) for row in rows)


def shown(catalog: Catalog, cases: EvalCases) -> list[tuple[str, str]]:
    return [
        (ids(catalog, cases.histories[i]), catalog.external_id(int(cases.targets[i])))
        for i in range(len(cases))
    ]


def test_leave_one_out_by_hand() -> None:
    data = make_interactions(*rows_of("a:xyzx b:xy c:zzz"))
    split = leave_one_out(data)
    assert [ids(split.catalog, split.training[i]) for i in range(3)] == ["xy", "xy", "z"]
    assert shown(split.catalog, split.validation) == [("xy", "z"), ("z", "z")]
    test = split.open_test()
    assert shown(split.catalog, test) == [("xyz", "x"), ("zz", "z")]
    assert test.users.tolist() == [0, 2]
    assert split.training.offsets.dtype == split.training.items.dtype == np.int64
    assert split.training_mask.tolist() == [1, 1, 0, 0, 1, 1, 1, 0, 0]
    assert split.left_out == 0


def test_a_case_is_followed_by_its_target_as_the_next_history_is() -> None:
    split = leave_one_out(make_interactions(*rows_of("a:xyzx b:xy c:zzz")))
    followed = split.validation.followed()
    assert [ids(split.catalog, followed[i]) for i in range(2)] == ["xyz", "zz"]
    test = split.open_test()
    assert [followed[i].tolist() for i in range(2)] == [
        test.histories[i].tolist() for i in range(2)
    ]


def test_the_catalog_counts_training_rows_only() -> None:
    # Over all rows z leads with 4; in training x and y have 2 each, z has 1, w none.
    split = leave_one_out(make_interactions(*rows_of("a:xyzz b:xy c:zzw")))
    assert split.catalog.external_ids == ("x", "y", "z", "w")


def test_a_given_catalog_is_kept_and_unknown_items_leave() -> None:
    data = make_interactions(*rows_of("a:xyzx c:zqzz d:zxzq"))
    split = leave_one_out(data, catalog=Catalog(["z", "x", "y"]))
    assert split.catalog.external_ids == ("z", "x", "y")
    assert [ids(split.catalog, split.training[i]) for i in range(3)] == ["xy", "z", "zx"]
    assert shown(split.catalog, split.validation) == [("xy", "z"), ("z", "z"), ("zx", "z")]
    assert shown(split.catalog, split.open_test()) == [("xyz", "x"), ("zz", "z")]
    assert split.left_out == 2  # c's q in training and d's target q


def test_the_test_part_opens_once(caplog: pytest.LogCaptureFixture) -> None:
    split = leave_one_out(make_interactions(*rows_of("a:xyz")))
    assert len(split.test) == 1
    with caplog.at_level(logging.INFO):
        split.open_test()
    assert "test part opened" in caplog.text
    with pytest.raises(RuntimeError, match="opened before"):
        split.open_test()
    assert len(split.open_test(again=True)) == 1


def test_no_training_rows_are_refused() -> None:
    data = make_interactions(*rows_of("a:qqq"))
    with pytest.raises(DataError, match="no training rows"):
        leave_one_out(data, catalog=Catalog(["z"]))


def timed(text: str, days: list[int]) -> tuple[list[str], list[str], list[int]]:
    users, items = rows_of(text)
    return users, items, [BASE + day * DAY for day in days]


def test_temporal_split_by_hand() -> None:
    data = make_interactions(*timed("a:pqrst b:pq c:rs", [0, 1, 5, 6, 8, 2, 9, 5, 9]))
    cuts = {
        "validation_start_ms": (BASE + 5 * DAY) * 1000,
        "test_start_ms": (BASE + 8 * DAY) * 1000,
    }
    split = temporal(data, **cuts)  # type: ignore[arg-type]
    assert [ids(split.catalog, split.training[i]) for i in range(3)] == ["pq", "p", ""]
    # c's first row is in validation, but nothing stands before it.
    assert shown(split.catalog, split.validation) == [("pq", "r")]
    assert shown(split.catalog, split.open_test()) == [("pqrs", "t"), ("p", "q"), ("r", "s")]
    every = temporal(data, **cuts, every_step=True, max_history=2)  # type: ignore[arg-type]
    assert shown(every.catalog, every.validation) == [("pq", "r"), ("qr", "s")]


def test_temporal_fractions_cut_by_rows_and_keep_moments_together() -> None:
    data = make_interactions(
        [str(n % 2) for n in range(10)],
        [str(n) for n in range(10)],
        [BASE + n for n in (0, 1, 2, 3, 4, 5, 5, 7, 8, 9)],
    )
    split = temporal(data, validation_fraction=0.3, test_fraction=0.2)
    assert len(split.training.items) == 5  # the cut falls on 5, whose twin comes along


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation_fraction": 0.6, "test_fraction": 0.5}, "must be above 0"),
        ({"test_start_ms": 5}, "give both"),
        ({"validation_start_ms": 1, "test_start_ms": 2}, "training part is empty"),
    ],
)
def test_temporal_refuses_senseless_cuts(options: dict[str, float], message: str) -> None:
    data = make_interactions(*timed("a:pqrst", [0, 1, 5, 6, 8]))
    with pytest.raises(DataError, match=message):
        temporal(data, **options)  # type: ignore[arg-type]


def test_temporal_needs_times() -> None:
    with pytest.raises(DataError, match="use leave-one-out"):
        temporal(make_interactions(*rows_of("a:pqrst")))


def test_sequences_know_their_lengths_and_bounds() -> None:
    sequences = Sequences(offsets=np.array([0, 3, 3, 4]), items=np.array([5, 6, 7, 8]))
    assert sequences.lengths().tolist() == [3, 0, 1]
    with pytest.raises(IndexError):
        sequences[3]


def test_popularity_falls_by_half_each_half_life() -> None:
    # q: two rows 20 days old, weight 1/4 each; p: one row of today.
    data = make_interactions(*timed("a:qqp", [0, 0, 20]))
    (first, share), (second, rest) = popular_items(data, half_life_days=10)
    assert (first, second) == ("p", "q")
    assert [share, rest] == pytest.approx([1 / 1.5, 0.5 / 1.5])
    # The default, a quarter of the span: q counts 2 / 16.
    ((first, share),) = popular_items(data, limit=1)
    assert first == "p"
    assert share == pytest.approx(1 / 1.125)
    mask = np.array([True, True, False])
    assert popular_items(data, training_mask=mask) == [("q", 1.0)]


def test_popularity_without_times_counts_rows() -> None:
    assert popular_items(make_interactions(*rows_of("a:qpq b:r"))) == [
        ("q", 0.5),
        ("p", 0.25),
        ("r", 0.25),
    ]


def test_popularity_and_catalog_refuse_bad_arguments() -> None:
    data = make_interactions(*rows_of("a:qpq"))
    with pytest.raises(DataError, match="limit is 0"):
        popular_items(data, limit=0)
    with pytest.raises(DataError, match="half_life_days is 0"):
        popular_items(data, half_life_days=0)
    with pytest.raises(DataError, match="3 booleans"):
        build_catalog(data, training_mask=np.array([True]))


def test_attributes_follow_the_rows() -> None:
    data = make_interactions(*rows_of("a:qpp"))
    catalog = build_catalog(data, {"q": {"title": "Q"}, "unmet": {"title": "U"}})
    assert catalog.attributes == ({}, {"title": "Q"})

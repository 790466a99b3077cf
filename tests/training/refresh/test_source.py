"""What is trained on: the file and the events, each once, without the forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.training.refresh.world import BASE_MS
from training.data.errors import DataError
from training.data.interactions import Interactions, make_interactions
from training.refresh.dataset import DataSet
from training.refresh.entries import Event, Forget, Merge, StreamId
from training.refresh.source import training_interactions
from training.refresh.upkeep import keep_up

DAY_MS = 86_400_000


def event(number: int, user: str, item: str, *, ms: int = 0, **changes: str) -> Event:
    return Event(
        at=StreamId(BASE_MS + number, 0),
        user_id=user,
        item_id=item,
        timestamp_ms=BASE_MS + ms,
        type=changes.get("type", "view"),
        identity=changes.get("identity", f"{number:016x}"),
    )


def collected(dataset: DataSet, rows: Sequence[Event | Forget | Merge], *, shard: int = 0) -> None:
    events = [row for row in rows if isinstance(row, Event)]
    ops = [dataset.keys.op(row, shard) for row in rows if not isinstance(row, Event)]
    dataset.commit(shard, rows[0].at, rows[-1].at, events, ops)
    keep_up(dataset)


def shown(found: Interactions) -> list[str]:
    return [
        f"{found.user_ids[user]}:{found.item_ids[item]}"
        for user, item in zip(found.user_codes, found.item_codes, strict=True)
    ]


def test_file_and_events_are_one_and_nothing_counts_twice(tmp_path: Path) -> None:
    source = make_interactions(["a", "a", "b"], ["x", "x", "y"], [BASE_MS, BASE_MS, BASE_MS + 5])
    with DataSet(tmp_path) as dataset:
        collected(
            dataset,
            [
                event(1, "a", "x"),  # in the file too
                event(2, "a", "z", ms=9),
                event(3, "a", "z", ms=9, identity=f"{2:016x}"),  # sent again much later
                event(4, "b", "z", ms=9, identity=f"{2:016x}"),  # another user's
                event(5, "a", "seen", type="impression"),
                event(6, "c", "bad\x00id"),
            ],
        )
        found = training_interactions(dataset, source)
        assert shown(found) == ["a:x", "a:x", "a:z", "b:y", "b:z"]
        assert found.report.bad_rows == 1
        assert found.has_times
        assert shown(training_interactions(dataset, None)) == ["a:x", "a:z", "b:z"]
        only = training_interactions(dataset, source, types={"impression"})
        assert shown(only) == ["a:x", "a:x", "a:seen", "b:y"]


def test_the_same_data_gives_the_same_digest(tmp_path: Path) -> None:
    digests = set()
    for directory in ("one", "two"):
        with DataSet(tmp_path / directory) as dataset:
            collected(dataset, [event(1, "a", "x"), event(2, "b", "y")])
            digests.add(training_interactions(dataset, None).digest)
    assert len(digests) == 1


def test_the_forgotten_are_left_out_of_the_file_as_well(tmp_path: Path) -> None:
    users = ["gone", "gone", "guest", "kept"]
    items = ["old", "late", "g", "k"]
    source = make_interactions(users, items, [BASE_MS, BASE_MS + DAY_MS, BASE_MS, BASE_MS])
    with DataSet(tmp_path) as dataset:
        at = StreamId(BASE_MS + 1000, 0)
        collected(dataset, [Forget(at=at, user_id="gone")], shard=1)
        collected(dataset, [Merge(at=at, user_id="guest", target="kept")], shard=2)
        assert shown(training_interactions(dataset, source)) == ["gone:late", "kept:g", "kept:k"]
        later = StreamId(BASE_MS + 2000, 0)
        collected(dataset, [Forget(at=later, user_id="kept")], shard=3)
        assert shown(training_interactions(dataset, source)) == ["gone:late"]


def test_without_times_the_file_comes_first_and_the_forgotten_go_whole(tmp_path: Path) -> None:
    source = make_interactions(["a", "a", "gone"], ["x", "y", "z"])
    assert not source.has_times
    with DataSet(tmp_path) as dataset:
        collected(
            dataset,
            [
                event(1, "a", "second", ms=9),
                event(2, "a", "first", ms=3),
                Forget(at=StreamId(BASE_MS + 3, 0), user_id="gone"),
            ],
        )
        found = training_interactions(dataset, source)
        assert shown(found) == ["a:x", "a:y", "a:first", "a:second"]
        assert not found.has_times


def test_what_is_too_old_is_left_out(tmp_path: Path) -> None:
    source = make_interactions(["a", "a"], ["x", "y"], [BASE_MS - 9 * DAY_MS, BASE_MS])
    with DataSet(tmp_path) as dataset:
        collected(dataset, [event(1, "a", "z", ms=3)])
        assert shown(training_interactions(dataset, source, max_age_days=5)) == ["a:y", "a:z"]


def test_a_data_set_of_another_format_is_left_alone(tmp_path: Path) -> None:
    with DataSet(tmp_path) as dataset:
        collected(dataset, [event(1, "a", "x")])
    (tmp_path / "FORMAT").write_text("2\n")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(DataError, match="format '2', this release reads 1"), DataSet(tmp_path):
        pass
    assert {path: path.stat().st_mtime_ns for path in before} == before
    (tmp_path / "FORMAT").write_text("1\n")
    with DataSet(tmp_path) as dataset:
        assert shown(training_interactions(dataset, None)) == ["a:x"]


def test_nothing_at_all_is_said(tmp_path: Path) -> None:
    with DataSet(tmp_path) as dataset, pytest.raises(DataError, match="nothing to learn"):
        training_interactions(dataset, None)

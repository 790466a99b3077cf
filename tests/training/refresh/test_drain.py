"""From what the service acknowledged to Parquet: every event once, in order, bounded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import redis

from models.events import EVENT_STREAMS, stream_key, stream_shard, wishes_key
from service.store.contract import HistoryEntry, Interaction
from tests.training.refresh.world import BASE_MS, appended, send, store_at, walks
from training.data.interactions import read_interactions
from training.refresh.dataset import DataSet
from training.refresh.drain import Drained, drain
from training.refresh.entries import StreamId, parse_entry
from training.refresh.errors import BusyError
from training.refresh.stream import GROUP, EventStream
from training.refresh.upkeep import keep_up


def rows(dataset: DataSet) -> list[dict[str, Any]]:
    return [row for part in dataset.parts() for row in pq.read_table(part.path).to_pylist()]


def contents(directory: Path) -> list[bytes]:
    return [path.read_bytes() for path in directory.rglob("*.parquet")]


def pairs(dataset: DataSet) -> list[tuple[str, str]]:
    return sorted((row["user_id"], row["item_id"]) for row in rows(dataset))


@pytest.mark.parametrize("protocol", [2, 3])
def test_what_was_acknowledged_is_there_once_and_the_streams_are_empty(
    redis_url: str, tmp_path: Path, protocol: int
) -> None:
    sent = walks([f"u{n}" for n in range(40)])
    send(redis_url, sent)
    with redis.Redis.from_url(redis_url, protocol=protocol) as client, DataSet(tmp_path) as dataset:
        found = drain(client, dataset, batch_entries=7)
        assert found == Drained(events=len(sent))
        assert pairs(dataset) == sorted((row.user_id, row.external_id) for row in sent)
        assert all(client.xlen(stream_key("canet:1", shard)) == 0 for shard in range(EVENT_STREAMS))
        assert drain(client, dataset, batch_entries=7) == Drained()
    days = {path.name for path in (tmp_path / "events").iterdir()}
    assert all(day.startswith("date=20") for day in days)
    again = read_interactions(tmp_path / "events", strict=True)
    assert len(again) == len(sent)


async def test_rows_say_all_that_the_event_said(redis_url: str, tmp_path: Path) -> None:
    event = Interaction(
        user_id="u",
        external_id="i",
        timestamp_ms=BASE_MS,
        event_id="e",
        type="purchase",
        recommendation_id="r",
        value=2.5,
    )
    store = store_at(redis_url)
    await store.append([event, event])
    await store.close()
    with redis.Redis.from_url(redis_url) as client, DataSet(tmp_path) as dataset:
        drain(client, dataset, batch_entries=10)
        (row,) = rows(dataset)
    assert row["timestamp"].timestamp() * 1000 == BASE_MS
    kept = ("user_id", "item_id", "type", "recommendation_id", "value")
    assert [row[name] for name in kept] == ["u", "i", "purchase", "r", 2.5]


async def test_delivered_and_not_acknowledged_is_delivered_again_and_known(
    redis_url: str, tmp_path: Path
) -> None:
    """A trainer that died after the rename, and one that died before it."""
    store = store_at(redis_url)
    sent = [row for row in walks(["u0"]) if row.user_id == "u0"]
    await appended(store, sent)
    await store.close()
    with redis.Redis.from_url(redis_url) as client, DataSet(tmp_path) as dataset:
        stream = EventStream(client, stream_shard("u0"))
        stream.open()
        first, second = stream.new(3), stream.new(3)
        assert len(first) == len(second) == 3
        events = [parse_entry(one.at, one.fields or {}) for one in first]
        flat = [row for found in events for row in found or []]
        dataset.commit(stream.shard, first[0].at, first[-1].at, flat, [])  # type: ignore[arg-type]
        found = drain(client, dataset, batch_entries=4)
        assert (found.events, found.repeated) == (len(sent) - 3, 3)
        assert pairs(dataset) == sorted((row.user_id, row.external_id) for row in sent)
        key = stream_key("canet:1", stream.shard)
        assert client.xpending(key, GROUP)["pending"] == 0


def test_a_lost_group_is_made_anew_and_repeats_nothing(redis_url: str, tmp_path: Path) -> None:
    send(redis_url, walks(["u0"]))
    key = stream_key("canet:1", stream_shard("u0"))
    with redis.Redis.from_url(redis_url) as client, DataSet(tmp_path) as dataset:
        stream = EventStream(client, stream_shard("u0"))
        stream.open()
        one = stream.new(1)[0]
        dataset.commit(stream.shard, one.at, one.at, [], [])
        client.xgroup_destroy(key, GROUP)
        found = drain(client, dataset, batch_entries=100)
        assert found.repeated == 1
        assert found.events == len(walks(["u0"])) - 1


def test_what_nobody_of_us_wrote_is_counted_and_left_behind(redis_url: str, tmp_path: Path) -> None:
    good = b'{"user":"u","item":"i","ms":5,"type":"view","event":"00"}'
    entries: list[dict[bytes, bytes]] = [
        {b"op": b"event", b"data": good},
        {b"op": b"event"},
        {b"op": b"other", b"data": good},
        {b"op": b"event", b"data": b"\xff\x00"},
        {b"op": b"event", b"data": b"[1]"},
        {b"op": b"event", b"data": b"[" * 100_000},
        {b"op": b"event", b"data": good.replace(b'"i"', b'"\\ud800"')},
        {b"op": b"event", b"data": good.replace(b'"i"', b'""')},
        {b"op": b"event", b"data": good.replace(b"5", b"-5")},
        {b"op": b"event", b"data": good.replace(b"5", b"1e3")},
        {b"op": b"replace", b"data": b'{"user":"u","entries":[["i"]]}'},
        {b"op": b"merge", b"data": b'{"user":"u"}'},
    ]
    with redis.Redis.from_url(redis_url) as client, DataSet(tmp_path) as dataset:
        for entry in entries:
            client.xadd(stream_key("canet:1", 3), entry)
        found = drain(client, dataset, batch_entries=5)
        assert (found.events, found.malformed) == (1, len(entries) - 1)
        assert client.xlen(stream_key("canet:1", 3)) == 0


def test_what_falls_to_the_bound_before_it_is_drained_is_told(
    redis_url: str, tmp_path: Path
) -> None:
    send(redis_url, walks(["u0"]))
    total = len(walks(["u0"]))
    with redis.Redis.from_url(redis_url) as client, DataSet(tmp_path) as dataset:
        client.xtrim(stream_key("canet:1", stream_shard("u0")), maxlen=4, approximate=False)
        found = drain(client, dataset, batch_entries=100)
        assert (found.events, found.lost) == (4, total - 4)
        # Trimmed although it was delivered: nothing is left to write, and nothing hangs on it.
        stream = EventStream(client, stream_shard("u0"))
        client.xadd(stream_key("canet:1", stream.shard), {b"op": b"event"})
        stream.new(1)
        client.xtrim(stream_key("canet:1", stream.shard), maxlen=0, approximate=False)
        found = drain(client, dataset, batch_entries=100)
        assert (found.events, found.lost) == (0, total - 4 + 1)


async def test_no_deletion_falls_to_the_bound_however_many_events_come_after_it(
    redis_url: str, tmp_path: Path
) -> None:
    def event(user: str, item: str) -> Interaction:
        return Interaction(user_id=user, external_id=item, timestamp_ms=BASE_MS)

    store = store_at(redis_url)
    names = ("gone", "guest", "put", "kept")
    await store.append([event(user, f"{user}-old") for user in names])
    with redis.Redis.from_url(redis_url) as client, DataSet(tmp_path) as dataset:
        drain(client, dataset, batch_entries=100)
        await store.delete("gone")
        await store.merge("member", "guest")
        await store.replace("put", [])
        await store.append([event("gone", "gone-late")])
        for shard in range(EVENT_STREAMS):  # what many events after them come to
            client.xtrim(stream_key("canet:1", shard), maxlen=0, approximate=False)
        wishes = [wishes_key("canet:1", stream_shard(user)) for user in names[:3]]
        client.rpush(wishes[0], b"what others wrote", b"\xff 1-1", b"9-9 delete {}")
        found = drain(client, dataset, batch_entries=100)
        assert (found.events, found.ops) == (0, 3)
        assert keep_up(dataset).removed == 2
        assert pairs(dataset) == [("kept", "kept-old"), ("member", "guest-old")]
        assert not any(client.exists(key) for key in wishes), "heard"
        # What the stream still has is not done twice, and what is no list is nobody's wish.
        await store.delete("member")
        client.set(wishes_key("canet:1", stream_shard("kept")), "what others wrote")
        await store.close()
        found = drain(client, dataset, batch_entries=100)
        assert (found.ops, keep_up(dataset).removed) == (1, 1)
        assert drain(client, dataset, batch_entries=100).ops == 0
        assert pairs(dataset) == [("kept", "kept-old")]


async def test_a_wish_that_comes_while_its_stream_is_drained_waits(
    redis_url: str, tmp_path: Path
) -> None:
    store = store_at(redis_url)
    await store.append([Interaction(user_id="u", external_id="a", timestamp_ms=BASE_MS)])
    shard = stream_shard("u")
    with redis.Redis.from_url(redis_url) as client:
        stream = EventStream(client, shard)
        end = stream.open()
        assert end is not None
        await store.delete("u")
        await store.close()
        assert stream.wishes(end) == []
        assert client.llen(wishes_key("canet:1", shard)) == 1
        end = stream.open()
        assert end is not None
        assert len(stream.wishes(end)) == 1


async def test_the_forgotten_are_gone_and_the_merged_have_moved(
    redis_url: str, tmp_path: Path
) -> None:
    def event(user: str, item: str) -> Interaction:
        return Interaction(user_id=user, external_id=item, timestamp_ms=BASE_MS)

    store = store_at(redis_url)
    await store.append([event(user, f"{user}-old") for user in ("gone", "guest", "put", "kept")])
    await store.merge("member", "guest")
    await store.delete("gone")
    await store.replace("put", [HistoryEntry(external_id="put-new", timestamp_ms=BASE_MS)])
    await store.append([event(user, f"{user}-late") for user in ("gone", "guest")])
    wanted = [
        ("gone", "gone-late"),
        ("guest", "guest-late"),
        ("kept", "kept-old"),
        ("member", "guest-old"),
        ("put", "put-new"),
    ]
    with redis.Redis.from_url(redis_url) as client, DataSet(tmp_path) as dataset:
        drain(client, dataset, batch_entries=2)
        assert keep_up(dataset).removed == 2
        assert pairs(dataset) == wanted
        await store.delete("member")
        await store.close()
        drain(client, dataset, batch_entries=2)
        assert keep_up(dataset).removed == 1
        assert pairs(dataset) == [pair for pair in wanted if pair[0] != "member"]
        assert keep_up(dataset).ops == 0
    assert not any(b"member" in content for content in contents(tmp_path))


def test_many_files_of_a_day_become_one(redis_url: str, tmp_path: Path) -> None:
    sent = walks(["u0"])
    send(redis_url, sent)
    with redis.Redis.from_url(redis_url) as client, DataSet(tmp_path) as dataset:
        drain(client, dataset, batch_entries=1)
        before, marks = rows(dataset), dataset.watermarks()
        assert len(dataset.parts()) == len(sent)
        assert keep_up(dataset).compacted == len(sent)
        assert len(dataset.parts()) == 1
        assert (rows(dataset), dataset.watermarks()) == (before, marks)


def test_a_file_that_lives_on_in_another_is_not_read(tmp_path: Path) -> None:
    """Compaction was killed between the rename and the removal."""
    with DataSet(tmp_path) as dataset:
        at = [StreamId(BASE_MS, n) for n in range(4)]
        for first, last in ((0, 0), (1, 2), (0, 3)):
            dataset.commit(1, at[first], at[last], [], [])
        assert [(part.first, part.last) for part in dataset.parts()] == [(at[0], at[3])]
        assert len(dataset.superseded()) == 2
        keep_up(dataset)
        assert not dataset.superseded()


def test_one_process_writes_a_data_set(tmp_path: Path) -> None:
    with DataSet(tmp_path), pytest.raises(BusyError, match="another process"), DataSet(tmp_path):
        pass
    (tmp_path / "events" / ".tmp-half").touch()
    with DataSet(tmp_path):
        assert not (tmp_path / "events" / ".tmp-half").exists()

"""What Redis holds: keys, streams, versions, foreign values, early leavers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from service.store.contract import (
    FORGET_SECONDS,
    MOST_SHOWN,
    HistoryEntry,
    Interaction,
    ShownTo,
    StoreUnavailableError,
)
from service.store.keys import Keys
from service.store.redis_config import RedisConfig
from service.store.redis_history import RedisHistoryStore
from service.store.shown import shown
from service.ulid import Ulids

KEYS = Keys()
HISTORY, VERSION = KEYS.history("ada"), KEYS.version("ada")
PATIENT: dict[str, Any] = {
    "op_timeout_seconds": 5,
    "write_timeout_seconds": 5,
    "connect_timeout_seconds": 5,
    "pool_wait_seconds": 5,
}


@pytest.fixture
async def raw(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[RedisHistoryStore]:
    store = RedisHistoryStore(RedisConfig(url=redis_url, history_max=3, **PATIENT))
    yield store
    await store.close()


def seen(item: str, ms: int, user: str = "ada", **more: Any) -> Interaction:
    return Interaction(user_id=user, external_id=item, timestamp_ms=ms, **more)


async def told(raw: Redis, user: str = "ada") -> list[tuple[str, dict[str, Any]]]:
    entries: Any = await raw.xrange(KEYS.stream(user))
    return [(fields[b"op"].decode(), json.loads(fields[b"data"])) for _, fields in entries]


async def connections(raw: Redis) -> int:
    """Return how many of the store's connections the server knows."""
    return sum(client["name"] == "canet" for client in await raw.client_list())


async def version(raw: Redis) -> int:
    return int(await raw.get(VERSION) or 0)


def test_keys_are_the_documented_ones() -> None:
    assert KEYS.history("a") == "canet:1:{u:a}:h"
    assert KEYS.version("a}{b/ü") == "canet:1:{u:a%7D%7Bb%2F%C3%BC}:v"
    assert KEYS.stream("a") in KEYS.streams()
    assert len(KEYS.streams()) == 16
    assert KEYS.streams()[15] == "canet:1:ev:{15}"


async def test_each_new_event_is_streamed_once_in_order(
    store: RedisHistoryStore, raw: Redis
) -> None:
    event = seen("a", 2, event_id="e", type="click", recommendation_id="r", value=1.5)
    await store.append([event, seen("b", 1)])
    await store.append([event, seen("c", 3), seen("c", 3)])
    ops = await told(raw)
    assert [(op, data["item"]) for op, data in ops] == [("event", i) for i in "abc"]
    first = ops[0][1]
    assert len(first.pop("event")) == 16
    assert first == {
        "user": "ada",
        "item": "a",
        "ms": 2,
        "type": "click",
        "recommendation": "r",
        "value": 1.5,
    }


async def test_replace_merge_and_delete_are_streamed(store: RedisHistoryStore, raw: Redis) -> None:
    await store.replace("ada", [HistoryEntry(external_id="a", timestamp_ms=1)])
    await store.merge("bob", "ada")
    await store.delete("ada")
    assert await told(raw) == [
        ("replace", {"user": "ada", "entries": [["a", 1]]}),
        ("merge", {"user": "bob", "source": "ada"}),
        ("delete", {"user": "ada"}),
    ]


async def test_the_version_rises_with_every_change_and_over_a_delete(
    store: RedisHistoryStore, raw: Redis
) -> None:
    await store.append([seen("a", 1)])
    assert await version(raw) == 1
    await store.append([seen("a", 1)])
    assert await version(raw) == 1, "a duplicate changes nothing"
    await store.delete("ada")
    assert await version(raw) == 2
    await store.append([seen("a", 1)])
    await store.replace("ada", [])
    await store.merge("bob", "ada")
    assert await version(raw) == 5
    assert await raw.ttl(VERSION) > 0


async def test_histories_expire_and_delete_takes_everything_of_the_user(
    store: RedisHistoryStore, raw: Redis
) -> None:
    await store.append([seen("a", 1)])
    assert 0 < await raw.ttl(HISTORY) <= 90 * 24 * 3600
    await raw.hset(KEYS.results("ada"), "x", "y")
    await raw.hset(KEYS.impressions("ada"), "x", "y")
    assert await store.delete("ada") is True
    left = {VERSION.encode(), KEYS.forgotten("ada").encode()}
    assert set(await raw.keys("canet:1:{u:ada}:*")) == left
    assert 0 < await raw.ttl(KEYS.forgotten("ada")) <= FORGET_SECONDS


async def test_what_was_shown_expires_and_foreign_values_are_healed(
    store: RedisHistoryStore, raw: Redis
) -> None:
    key, of = KEYS.impressions("ada"), ("ada", "r")
    one = ShownTo(
        user_id="ada",
        recommendation_id="r",
        shown=shown("stable", None, ["a"]),
        made_at=time.monotonic(),
    )
    for mark in ("", "nan", "inf", "0x"):
        await raw.set(key, "foreign")
        await raw.set(KEYS.forgotten("ada"), mark)
        assert await store.recall([of]) == [None]
        await store.remember([one])
        assert await store.recall([of]) == [one.shown]
    assert 0 < await raw.ttl(key) <= 24 * 3600
    await raw.hset(key, "r", "foreign")
    assert await store.recall([of]) == [None]
    assert await raw.keys("canet:1:ev:*") == [], "the trainer is not told"


async def test_ten_items_shown_stay_in_a_compact_listpack(
    store: RedisHistoryStore, raw: Redis
) -> None:
    record = shown("candidate", "d4-w128-e128", [f"item-{number}" for number in range(10)])
    for _ in range(MOST_SHOWN):
        new = ShownTo(
            user_id="ada", recommendation_id=Ulids()(), shown=record, made_at=time.monotonic()
        )
        await store.remember([new])
    assert await raw.object("encoding", KEYS.impressions("ada")) == b"listpack"
    used = await raw.memory_usage(KEYS.impressions("ada"))
    assert used is not None
    assert used < 4096


async def test_a_small_history_stays_a_compact_listpack(
    store: RedisHistoryStore, raw: Redis
) -> None:
    await store.append([seen("item-with-a-realistic-id-0001", 1_767_225_600_000)])
    assert await raw.object("encoding", HISTORY) == b"listpack"
    found: Any = await raw.zrange(HISTORY, 0, -1, withscores=True)
    ((member, score),) = found
    assert score == 1_767_225_600_000
    assert member[8:] == b"item-with-a-realistic-id-0001"


async def test_foreign_members_read_as_absent(store: RedisHistoryStore, raw: Redis) -> None:
    foreign: dict[bytes, int | str] = {
        b"short": 1,
        b"": 2,
        b"12345678": 3,
        b"12345678\xff\xfe": 4,
        b"12345678ok": "inf",
    }
    await raw.zadd(HISTORY, foreign)
    await store.append([seen("mine", 10)])
    assert await store.entries("ada", 10) == [HistoryEntry(external_id="mine", timestamp_ms=10)]
    assert "mine" in await store.recent("ada", 10)
    assert await store.merge("bob", "ada") >= 1
    assert "mine" in await store.recent("bob", 10)


@pytest.mark.parametrize("write", ["append", "replace", "merge", "merge-from", "delete"])
async def test_foreign_types_under_a_users_keys_are_healed_by_the_next_write(
    store: RedisHistoryStore, raw: Redis, write: str
) -> None:
    await raw.set(HISTORY, "foreign")
    await raw.set(VERSION, "not a number")
    assert await store.recent("ada", 10) == []
    assert await store.entries("ada", 10) == []
    await store.append([seen("b", 1, user="bob")])
    if write == "append":
        await store.append([seen("a", 1)])
        assert await store.recent("ada", 10) == ["a"]
    elif write == "replace":
        await store.replace("ada", [HistoryEntry(external_id="a", timestamp_ms=1)])
        assert await store.recent("ada", 10) == ["a"]
    elif write == "merge":
        assert await store.merge("ada", "bob") == 1
    elif write == "merge-from":
        assert await store.merge("bob", "ada") == 1
    else:
        assert await store.delete("ada") is True
    assert await version(raw) > 1_000_000, "it rises above whatever a counter can have been"


async def test_an_event_that_cannot_be_streamed_is_not_acknowledged(
    store: RedisHistoryStore, raw: Redis
) -> None:
    await raw.set(KEYS.stream("ada"), "foreign")
    with pytest.raises(StoreUnavailableError, match="WRONGTYPE"):
        await store.append([seen("a", 1)])
    assert await store.recent("ada", 10) == []
    assert not store.is_open, "the server did answer"


async def test_a_full_server_acknowledges_nothing(store: RedisHistoryStore, raw: Redis) -> None:
    await store.append([seen("a", 1)])
    await raw.config_set("maxmemory", "1")
    try:
        with pytest.raises(StoreUnavailableError, match="OOM"):
            await store.append([seen("b", 2)])
        assert await store.recent("ada", 10) == ["a"]
        assert len(await told(raw)) == 1
    finally:
        await raw.config_set("maxmemory", "0")
    assert await store.append([seen("b", 2)]) == [True]


async def test_scripts_return_after_the_server_forgot_them(
    store: RedisHistoryStore, raw: Redis
) -> None:
    await store.append([seen("a", 1)])
    await raw.script_flush()
    assert await store.append([seen("b", 2), seen("b", 2, user="bob")]) == [True, True]
    assert await store.recent("ada", 10) == ["a", "b"]


async def test_the_stream_is_bounded(redis_url: str, raw: Redis) -> None:
    store = RedisHistoryStore(RedisConfig(url=redis_url, stream_max_length=100, **PATIENT))
    for start in range(0, 1000, 250):
        await store.append([seen("a", n) for n in range(start, start + 250)])
    assert await raw.xlen(KEYS.stream("ada")) <= 300
    await store.close()


async def test_no_reply_reaches_another_user_when_callers_leave(redis_url: str, raw: Redis) -> None:
    """Callers hang up at every point of an exchange; each answer is still the asker's own."""
    store = RedisHistoryStore(RedisConfig(url=redis_url, max_connections=4, **PATIENT))
    users = [f"user-{n}" for n in range(20)]
    await store.append([seen(f"of-{user}", 1, user=user) for user in users])

    async def ask(n: int) -> None:
        user = users[n % len(users)]
        task = asyncio.ensure_future(store.recent(user, 5))
        if n % 3:
            for _ in range(n % 17):
                await asyncio.sleep(0)
            task.cancel()
        try:
            assert await task == [f"of-{user}"]
        except asyncio.CancelledError:
            assert n % 3

    for start in range(0, 1500, 100):
        await asyncio.gather(*(ask(n) for n in range(start, start + 100)))
    assert 1 <= await connections(raw) <= 4
    await store.close()
    async with asyncio.timeout(20):
        while await connections(raw):  # noqa: ASYNC110 - the server reads of a close later
            await asyncio.sleep(0.01)


async def test_a_write_whose_caller_left_is_whole(redis_url: str) -> None:
    store = RedisHistoryStore(RedisConfig(url=redis_url, **PATIENT))
    task = asyncio.ensure_future(store.append([seen("a", 1), seen("b", 2)]))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await store.close()
    again = RedisHistoryStore(RedisConfig(url=redis_url, **PATIENT))
    assert await again.recent("ada", 5) == ["a", "b"]
    await again.close()
    with pytest.raises(StoreUnavailableError, match="closed"):
        await again.recent("ada", 5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"url": "http://x"}, "use one of redis, rediss, unix"),
        ({"url": "redis+cluster://x"}, "not supported"),
        ({"history_max": 1001}, "choose 1 to 1000"),
        ({"op_timeout_seconds": 0}, "above 0"),
    ],
)
def test_a_wrong_config_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RedisConfig(**{"url": "redis://x", **changes})


def test_the_config_does_not_print_its_password() -> None:
    assert "secret" not in repr(RedisConfig(url="redis://:secret@x"))

"""The blocklist: one for all replicas, bounded, and never lost for want of an answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis

from service.blocklist.blocklist import Blocklist, blocked
from service.blocklist.contract import BlocklistFullError, BlocklistStore
from service.blocklist.memory_blocklist import MemoryBlocklist
from service.blocklist.redis_blocklist import RedisBlocklist
from service.engine.contract import NOTHING_BLOCKED
from service.store.contract import StoreUnavailableError
from service.store.embedded import EmbeddedServer
from service.store.keys import MAX_TIMESTAMP_MS
from service.store.redis_config import RedisConfig

LIMIT = 5


def redis_store(url: str) -> RedisBlocklist:
    config = RedisConfig(url=url, connect_timeout_seconds=5, pool_wait_seconds=5)
    return RedisBlocklist(config, limit=LIMIT, observe=lambda op, seconds, kind: None)


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[BlocklistStore]:
    found: BlocklistStore = MemoryBlocklist(limit=LIMIT)
    if request.param == "redis":
        found = redis_store(request.getfixturevalue("redis_url"))
    yield found
    await found.close()


@dataclass
class Observed:
    sizes: list[int] = field(default_factory=list)
    read_at: float = 0.0

    def blocklist_holds(self, size: int) -> None:
        self.sizes.append(size)

    def blocklist_read(self, at_unix: float) -> None:
        self.read_at = at_unix


def following(store: BlocklistStore, observed: Observed | None = None) -> Blocklist:
    return Blocklist(store, observer=observed or Observed(), poll_seconds=0.02, limit=LIMIT)


async def until(done: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not done():  # noqa: ASYNC110 - another task brings it about
            await asyncio.sleep(0.01)


async def test_changes_are_one_step_and_the_same_again_changes_nothing(
    store: BlocklistStore,
) -> None:
    before = time.time()
    empty = await store.read(None)
    assert empty is not None
    assert (empty.revision, dict(empty.since_ms)) == (0, {})
    first = await store.change(["a", "ü/{x}"], [])
    assert (first.added, first.removed, first.size) == (2, 0, 2)
    again = await store.change(["a"], ["nobody"])
    assert (again.added, again.removed, again.size) == (0, 0, 2)
    both = await store.change(["b"], ["a"])
    assert (both.added, both.removed, both.size) == (1, 1, 2)
    held = await store.read(first.revision)
    assert held is not None
    assert set(held.since_ms) == {"ü/{x}", "b"}
    assert held.revision == both.revision > first.revision > 0
    assert all(before - 5 < since / 1000 < time.time() + 5 for since in held.since_ms.values())
    assert await store.read(both.revision) is None, "known already"
    whole = await store.replace(["b", "c", "d"])
    assert (whole.added, whole.removed, whole.size) == (2, 1, 3)
    after = await store.read(None)
    assert after is not None
    assert after.since_ms["b"] == held.since_ms["b"], "blocked since then, not since now"
    assert (await store.replace([])).size == 0


async def test_it_is_bounded_and_a_refused_change_changes_nothing(store: BlocklistStore) -> None:
    await store.change(["a", "b", "c", "d"], [])
    for attempt in (store.change(["e", "f"], []), store.replace(list("stuvwx"))):
        with pytest.raises(BlocklistFullError) as caught:
            await attempt
        assert (caught.value.size, caught.value.limit) == (6, LIMIT)
    full = await store.change(["e", "f"], ["a"])
    assert full.size == LIMIT, "what goes makes room"
    assert (await store.replace(list("vwxyz"))).size == LIMIT


async def test_every_replica_follows_and_a_restart_finds_it(redis_url: str) -> None:
    observed = Observed()
    one, two = following(redis_store(redis_url)), following(redis_store(redis_url), observed)
    for replica in (one, two):
        await replica.start()
        assert replica.known
        assert replica.current is NOTHING_BLOCKED
    await one.change(["a", "b"], [])
    assert one.current == blocked(["a", "b"]), "here on return"
    await until(lambda: two.current == blocked(["b", "a"]))
    await two.replace(["c"])
    await until(lambda: one.current.external_ids == {"c"})
    assert observed.sizes[-1] == 1
    assert observed.read_at > time.time() - 30
    await one.stop()
    restarted = following(redis_store(redis_url))
    await restarted.start()
    assert restarted.current == blocked(["c"])
    assert (await restarted.listing()).since_ms.keys() == {"c"}
    await restarted.stop()
    await two.stop()


async def test_what_is_known_holds_while_the_store_is_away_or_comes_back_empty(
    tmp_path: Path,
) -> None:
    with EmbeddedServer(tmp_path / "one") as server:
        url = server.url
        replica = following(redis_store(url))
        await replica.start()
        await replica.change(["a"], [])
    with pytest.raises(StoreUnavailableError):
        await replica.change(["b"], [])
    with pytest.raises(StoreUnavailableError):
        await replica.listing()
    assert replica.current == blocked(["a"])
    await replica.stop()

    late = following(redis_store(url))
    await late.start()
    assert not late.known, "the start goes on without it"
    await late.stop()


async def test_a_store_that_lost_the_list_unblocks_nothing(redis_url: str) -> None:
    replica = following(redis_store(redis_url))
    await replica.start()
    await replica.change(["a"], [])
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
        await asyncio.sleep(0.2)  # several polls
        assert replica.current == blocked(["a"])
        done = await replica.change(["b"], [])
        assert (done.size, replica.current) == (2, blocked(["a", "b"])), "on top of what holds"
        client.flushall()
        await replica.replace([])
        assert replica.current is NOTHING_BLOCKED, "somebody said so"
        client.delete("canet:1:blocklist")
        client.set("canet:1:blocklist", "what others wrote")
        client.set("canet:1:blocklist:revision", "nan")
        assert (await replica.listing()).since_ms == {}
        await replica.change(["b"], [])
        assert replica.current == blocked(["b"]), "what was no list is replaced by one"
        foreign = {b"\xff\xfe": b"1", b"c": b"soon", b"d": b"9" * 30}
        client.hset("canet:1:blocklist", mapping=foreign)
        client.set("canet:1:blocklist:revision", 99)
    await until(lambda: replica.current == blocked(["b", "c", "d"]))
    assert max((await replica.listing()).since_ms.values()) <= MAX_TIMESTAMP_MS
    await replica.stop()


def test_the_digest_names_the_items_in_any_order() -> None:
    assert blocked(["a", "b"]).digest == blocked(["b", "a", "a"]).digest
    assert blocked(["a", "b"]).digest != blocked(["ab"]).digest
    assert blocked([]) is NOTHING_BLOCKED

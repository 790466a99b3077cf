"""Reads of one turn share a round trip; nobody gets another's reply, or another's failure."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from service.store.contract import Interaction, StoreUnavailableError
from service.store.redis_client import MOST_TOGETHER
from service.store.redis_config import RedisConfig
from service.store.redis_history import RedisHistoryStore

USERS = 150


def config(url: str) -> RedisConfig:
    return RedisConfig(
        url=url, op_timeout_seconds=5, write_timeout_seconds=5, connect_timeout_seconds=5
    )


def seen(user: int) -> Interaction:
    return Interaction(user_id=f"u{user}", external_id=f"i{user}", timestamp_ms=1)


async def test_everybody_gets_their_own_history_in_few_round_trips(redis_url: str) -> None:
    trips: list[str] = []
    store = RedisHistoryStore(config(redis_url), observe=lambda op, seconds, kind: trips.append(op))
    await store.append([seen(user) for user in range(USERS)])
    async with Redis.from_url(redis_url) as client:
        await client.set(store.keys.history("foreign"), "no sorted set")
    trips.clear()
    tasks = [asyncio.ensure_future(store.recent(f"u{user}", 10)) for user in range(USERS)]
    tasks.append(asyncio.ensure_future(store.recent("foreign", 10)))
    await asyncio.sleep(0)
    for user in range(0, USERS, 3):
        tasks[user].cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    for user, history in enumerate(found[:-1]):
        if user % 3 == 0:
            assert isinstance(history, asyncio.CancelledError)
        else:
            assert history == [f"i{user}"]
    assert found[-1] == []
    assert trips == ["recent"] * -(-(USERS - USERS // 3 + 1) // MOST_TOGETHER)
    await store.close()


async def test_a_lost_round_trip_fails_each_of_its_reads(redis_url: str) -> None:
    store = RedisHistoryStore(config("redis://127.0.0.1:1/0"))
    found = await asyncio.gather(
        *(store.recent(f"u{user}", 10) for user in range(5)), return_exceptions=True
    )
    assert all(isinstance(error, StoreUnavailableError) for error in found)
    assert len({id(error) for error in found}) == len(found)
    await store.close()


async def test_a_closed_store_refuses_reads_that_were_about_to_go_out(redis_url: str) -> None:
    store = RedisHistoryStore(config(redis_url))
    reading = asyncio.ensure_future(store.recent("u", 10))
    await asyncio.sleep(0)
    await store.close()
    with pytest.raises(StoreUnavailableError):
        await store.recent("u", 10)
    await asyncio.wait([reading])

"""The server turns out to be a replica, or to have none: nothing is acknowledged too early."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import redis

from service.store.contract import Interaction, StoreUnavailableError
from service.store.embedded import EmbeddedServer
from service.store.redis_config import RedisConfig
from service.store.redis_history import RedisHistoryStore

EVENT = Interaction(user_id="ada", external_id="a", timestamp_ms=1)
LATER = Interaction(user_id="ada", external_id="b", timestamp_ms=2)
PATIENCE = {"op_timeout_seconds": 5.0, "connect_timeout_seconds": 5.0, "pool_wait_seconds": 5.0}


def store_at(url: str, **changes: Any) -> RedisHistoryStore:
    return RedisHistoryStore(RedisConfig(url=url, **{**PATIENCE, **changes}))


def connections(client: redis.Redis) -> set[int]:
    told: Any = client.client_list()
    return {int(one["id"]) for one in told if one["name"] == "canet"}


async def test_what_has_become_a_replica_is_left_by_every_connection(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        store = store_at(server.url, write_timeout_seconds=5.0)
        assert await store.append([EVENT]) == [True]
        # Reads of two operations go out apart, so there is more than one connection.
        await asyncio.gather(store.recent("ada", 5), store.entries("ada", 5))
        before = connections(client)
        assert len(before) > 1
        client.replicaof("127.0.0.1", "1")
        with pytest.raises(StoreUnavailableError, match="READONLY"):
            await store.append([LATER])
        assert await store.recent("ada", 5) == ["a"]
        assert not connections(client) & before
        client.replicaof("NO", "ONE")
        assert await store.append([EVENT, LATER]) == [False, True]
        await store.close()


async def test_an_event_that_no_replica_holds_is_not_acknowledged(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server:
        store = store_at(server.url, write_timeout_seconds=0.3, wait_replicas=1)
        with pytest.raises(StoreUnavailableError, match="0 of 1 replicas"):
            await store.append([EVENT])
        with pytest.raises(StoreUnavailableError, match="0 of 1 replicas"):
            await store.append([EVENT])  # known, and still nowhere else
        assert not store.is_open
        await store.close()

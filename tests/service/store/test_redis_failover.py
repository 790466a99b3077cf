"""The server turns out to be a replica, or to have none: nothing is acknowledged too early."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import redis

from service.store.contract import Interaction, StoreUnavailableError
from service.store.embedded import EmbeddedServer
from service.store.redis_config import RedisConfig
from service.store.redis_history import RedisHistoryStore
from tests.servers.processes import free_port

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
        for event in (EVENT, LATER):
            with pytest.raises(StoreUnavailableError, match="READONLY"):
                await store.append([event])
        assert await store.recent("ada", 5) == ["a"]
        assert not connections(client) & before
        client.replicaof("NO", "ONE")
        assert await store.append([EVENT, LATER]) == [False, True]
        await store.close()


async def test_an_event_that_no_replica_holds_is_not_acknowledged(tmp_path: Path) -> None:
    port = free_port()
    opened = ("--port", str(port), "--bind", "127.0.0.1")
    following = ("--replicaof", "127.0.0.1", str(port))
    with EmbeddedServer(tmp_path / "primary", extra_arguments=opened) as primary:
        store = store_at(primary.url, write_timeout_seconds=0.3, wait_replicas=1)
        with pytest.raises(StoreUnavailableError, match="0 of 1 replicas"):
            await store.append([EVENT])
        assert not store.is_open
        with EmbeddedServer(tmp_path / "replica", extra_arguments=following) as replica:
            async with asyncio.timeout(60):
                while not await acknowledged(store, EVENT):  # noqa: ASYNC110 - it is in step soon
                    await asyncio.sleep(0.02)
            assert replica.pid is not None
            os.kill(replica.pid, signal.SIGSTOP)
            try:
                assert not await acknowledged(store, LATER)
                # Known by now, over a connection that wrote nothing, and still in one place only.
                other = store_at(primary.url, write_timeout_seconds=0.3, wait_replicas=1)
                assert not await acknowledged(other, LATER)
                await other.close()
            finally:
                os.kill(replica.pid, signal.SIGCONT)
        await store.close()


async def acknowledged(store: RedisHistoryStore, event: Interaction) -> bool:
    try:
        await store.append([event])
    except StoreUnavailableError:
        return False
    return True

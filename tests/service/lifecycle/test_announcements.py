"""Pub/Sub hastens a look at CURRENT; without it everything works, only later."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.asyncio import Redis

from models.events import KEY_PREFIX, active_model_key
from service.lifecycle.announcements import Announcements
from service.store.embedded import EmbeddedServer
from tests.service.lifecycle.tools import until

CHANNEL = active_model_key(KEY_PREFIX)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A server of this test alone: it is ended in between."""
    with EmbeddedServer(tmp_path / "redis", extra_arguments=("--appendonly", "no")) as server:
        yield server


async def listening(url: str) -> None:
    async with Redis.from_url(url) as client:
        async with asyncio.timeout(20):
            while (await client.pubsub_numsub(CHANNEL))[0][1] < 1:  # noqa: ASYNC110 - a server
                await asyncio.sleep(0.01)


async def test_a_message_is_noticed_whatever_it_says(redis_url: str) -> None:
    noticed: list[int] = []
    announcements = Announcements(redis_url, lambda: noticed.append(1))
    announcements.start()
    try:
        await listening(redis_url)
        await until(lambda: noticed)
        for message in (
            b"",
            b"\xff\x00",
            b"{not json",
            b'{"version": "../../etc"}',
            b"x" * 100_000,
        ):
            noticed.clear()
            async with Redis.from_url(redis_url) as client:
                await client.publish(CHANNEL, message)
            await until(lambda: noticed)
    finally:
        await announcements.stop()


async def test_one_replica_tells_the_others(redis_url: str) -> None:
    noticed: list[int] = []
    listener = Announcements(redis_url, lambda: noticed.append(1))
    teller = Announcements(redis_url, lambda: None)
    listener.start()
    try:
        await listening(redis_url)
        await until(lambda: noticed)
        before = len(noticed)
        teller.tell("20261121T041200Z-1a2b3c4d")
        await until(lambda: len(noticed) > before)
    finally:
        await teller.stop()
        await listener.stop()
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        assert "20261121T041200Z-1a2b3c4d" in str(client.get(CHANNEL))


async def test_a_server_that_goes_and_comes_back_is_heard_again(
    server: EmbeddedServer, tmp_path: Path
) -> None:
    noticed: list[int] = []
    announcements = Announcements(server.url, lambda: noticed.append(1))
    announcements.start()
    try:
        await listening(server.url)
        server.stop()
        announcements.tell("20261121T041200Z-1a2b3c4d")  # nobody hears it, and nothing breaks
        await asyncio.sleep(0.2)
        before = len(noticed)
        with EmbeddedServer(tmp_path / "redis", extra_arguments=("--appendonly", "no")) as again:
            assert again.url == server.url
            await listening(again.url)
            await until(lambda: len(noticed) > before)
    finally:
        await announcements.stop()


async def test_an_absent_server_stops_nobody(tmp_path: Path) -> None:
    announcements = Announcements(f"unix://{tmp_path}/absent.sock", lambda: None)
    announcements.start()
    await asyncio.sleep(0.05)
    announcements.tell("20261121T041200Z-1a2b3c4d")
    await announcements.stop()
    await announcements.stop()

"""Connections are kept and handed out, never more than allowed, never one with a stale reply."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError

from service.store.connections import Connections
from service.store.redis_config import RedisConfig


@pytest.fixture
async def two(redis_url: str) -> AsyncIterator[Connections]:
    made = Connections(RedisConfig(url=redis_url, max_connections=2, pool_wait_seconds=0.01))
    yield made
    await made.retire()


async def ask(connection: AbstractConnection, text: str) -> bytes:
    await connection.send_command("ECHO", text)
    reply: bytes = await connection.read_response(disable_decoding=True)
    return reply


async def test_what_was_given_back_is_handed_out_again(two: Connections) -> None:
    assert await two.take_idle() is None, "nothing is open yet"
    first = await two.take()
    assert await ask(first, "a") == b"a"
    await two.give(first, keep=True)
    again = await two.take_idle()
    assert again is first
    assert await ask(again, "b") == b"b"
    await two.give(again, keep=True)


async def test_no_more_than_allowed_and_the_next_waits_its_turn(two: Connections) -> None:
    first, second = await two.take(), await two.take()
    assert two.full
    assert await two.take_idle() is None
    with pytest.raises(RedisConnectionError, match="in use"):
        await two.take()
    waiting = asyncio.create_task(two.take())
    await asyncio.sleep(0)
    await two.give(first, keep=True)
    assert await waiting is first
    await two.give(first, keep=True)
    await two.give(second, keep=True)
    assert not two.full


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_reply_that_nobody_read_ends_its_connection(
    two: Connections, at_once: bool
) -> None:
    one = await two.take()
    await one.send_command("ECHO", "another's")
    async with asyncio.timeout(20):
        while not await one.can_read():  # noqa: ASYNC110 - told to nobody
            await asyncio.sleep(0.001)
    await two.give(one, keep=True)
    if at_once:
        assert await two.take_idle() is None
    next_one = await two.take()
    assert await ask(next_one, "mine") == b"mine"
    await two.give(next_one, keep=True)
    assert not two.full


async def test_one_that_broke_is_not_kept_and_its_place_is_free(two: Connections) -> None:
    for _ in range(5):
        one = await two.take()
        await two.give(one, keep=False)
        assert not one.is_connected
    assert await two.take_idle() is None


async def test_what_is_retired_is_closed_now_or_when_it_comes_back(two: Connections) -> None:
    idle, taken = await two.take(), await two.take()
    await two.give(idle, keep=True)
    await two.retire()
    assert not idle.is_connected
    assert await ask(taken, "still") == b"still"
    await two.give(taken, keep=True)
    assert not taken.is_connected


async def test_a_connection_that_cannot_be_opened_takes_no_room() -> None:
    made = Connections(RedisConfig(url="unix:///nowhere/none.sock", max_connections=1))
    for _ in range(3):
        with pytest.raises(RedisConnectionError):
            await made.take()
    assert not made.full

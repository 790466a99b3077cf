"""The server dies, hangs and returns; callers get a clear error in time, then answers again."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from service.config.values import Rate
from service.overload.shared_rates import SharedRates
from service.store.breaker import CircuitBreaker
from service.store.contract import Interaction, StoreUnavailableError
from service.store.embedded import EmbeddedServer
from service.store.redis_config import RedisConfig
from service.store.redis_history import RedisHistoryStore

Observed = list[tuple[str, str | None]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path) as server:
        yield server


@pytest.fixture
def observed() -> Observed:
    return []


@pytest.fixture
async def store(server: EmbeddedServer, observed: Observed) -> AsyncIterator[RedisHistoryStore]:
    config = RedisConfig(
        url=server.url,
        op_timeout_seconds=0.5,
        write_timeout_seconds=2.0,
        connect_timeout_seconds=2.0,
        breaker_failures=3,
        probe_seconds=0.05,
    )
    store = RedisHistoryStore(config, observe=lambda op, _, kind: observed.append((op, kind)))
    yield store
    await store.close()


def seen(item: str, ms: int) -> Interaction:
    return Interaction(user_id="ada", external_id=item, timestamp_ms=ms)


def send(server: EmbeddedServer, what: signal.Signals) -> None:
    assert server.pid is not None
    os.kill(server.pid, what)


async def fail(store: RedisHistoryStore, times: int) -> None:
    for _ in range(times):
        with pytest.raises(StoreUnavailableError):
            await store.recent("ada", 5)


async def recovered(store: RedisHistoryStore) -> list[str]:
    async with asyncio.timeout(20):
        while True:
            try:
                return await store.recent("ada", 5)
            except StoreUnavailableError:
                await asyncio.sleep(0.02)


async def test_kill_9_opens_the_breaker_and_a_restart_closes_it(
    server: EmbeddedServer, store: RedisHistoryStore, observed: Observed
) -> None:
    await store.append([seen("a", 1)])
    send(server, signal.SIGKILL)
    server.stop()
    await fail(store, 5)
    assert store.is_open
    assert ("recent", "connection") in observed
    assert observed[-1] == ("recent", "breaker_open"), "an open breaker asks nobody"
    assert await store.ping() is False
    with pytest.raises(StoreUnavailableError):
        await store.append([seen("b", 2)])
    server.start()
    assert await recovered(store) == ["a"], "acknowledged is kept"
    kinds = [kind for _, kind in observed]
    assert kinds[-1] is None, "the breaker lets calls through again"
    assert await store.append([seen("b", 2)]) == [True]


async def test_a_hanging_server_fails_in_time_and_recovers(
    server: EmbeddedServer, store: RedisHistoryStore, observed: Observed
) -> None:
    await store.append([seen("a", 1)])
    send(server, signal.SIGSTOP)
    try:
        async with asyncio.timeout(10):
            await fail(store, 5)
            with pytest.raises(StoreUnavailableError):
                await store.append([seen("b", 2)])
        assert store.is_open
        assert ("recent", "timeout") in observed
        assert await store.ping() is False
    finally:
        send(server, signal.SIGCONT)
    assert await recovered(store) == ["a"]


async def test_many_callers_of_a_hanging_server_leak_no_connection(
    server: EmbeddedServer, store: RedisHistoryStore
) -> None:
    await store.append([seen("a", 1)])
    descriptors = len(os.listdir("/dev/fd"))  # noqa: PTH208 - Path would add one of its own
    send(server, signal.SIGSTOP)
    try:
        answers = await asyncio.gather(
            *(store.recent("ada", 5) for _ in range(200)), return_exceptions=True
        )
        assert {type(answer) for answer in answers} == {StoreUnavailableError}
    finally:
        send(server, signal.SIGCONT)
    assert await recovered(store) == ["a"]
    answers = await asyncio.gather(*(store.recent("ada", 5) for _ in range(32)))
    assert all(answer == ["a"] for answer in answers)
    assert len(os.listdir("/dev/fd")) <= descriptors + 32  # noqa: PTH208


async def test_a_read_survives_one_broken_connection(
    server: EmbeddedServer, store: RedisHistoryStore
) -> None:
    await store.append([seen("a", 1)])
    server.stop()
    server.start()
    assert await store.recent("ada", 5) == ["a"]


async def test_tcp_with_a_password(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with EmbeddedServer(tmp_path, extra_arguments=("--port", str(port))) as server:
        async with Redis.from_url(server.url) as raw:
            await raw.config_set("requirepass", "secret")
        patient = {
            "op_timeout_seconds": 5.0,
            "write_timeout_seconds": 5.0,
            "connect_timeout_seconds": 5.0,
        }
        for password, answers in (("secret", True), ("wrong", False)):
            url = f"redis://:{password}@127.0.0.1:{port}/1"
            store = RedisHistoryStore(RedisConfig(url=url, **patient))  # type: ignore[arg-type]
            assert await store.ping() is answers
            if answers:
                assert await store.append([seen("a", 1)]) == [True]
            else:
                with pytest.raises(StoreUnavailableError, match=r"\(auth\)") as refusal:
                    await store.recent("ada", 5)
                assert "wrong" not in str(refusal.value)
            await store.close()


async def test_a_server_that_accepts_and_says_nothing_holds_nobody_up() -> None:
    connections: list[asyncio.StreamWriter] = []
    mute = await asyncio.start_server(lambda _, writer: connections.append(writer), "127.0.0.1", 0)
    url = f"redis://127.0.0.1:{mute.sockets[0].getsockname()[1]}/0"
    # Opening a connection may take for ever; whoever asks does not wait for that.
    config = RedisConfig(url=url, connect_timeout_seconds=3600.0)
    store = RedisHistoryStore(config)
    rates = SharedRates(Rate(requests=1, seconds=60), config, lambda *_: None)
    async with asyncio.timeout(60):
        with pytest.raises(StoreUnavailableError, match="in time"):
            await store.recent("ada", 5)
        assert (await rates.take("ada")).allowed
        assert not (await rates.take("ada")).allowed
    mute.close()
    for connection in connections:
        connection.close()
    await rates.close()
    await store.close()


async def test_a_server_that_never_was(tmp_path: Path) -> None:
    store = RedisHistoryStore(RedisConfig(url=f"unix://{tmp_path}/none.sock"))
    with pytest.raises(StoreUnavailableError, match="connection"):
        await store.recent("ada", 5)
    assert await store.ping() is False
    await store.close()


async def test_the_breaker_opens_probes_and_closes() -> None:
    answers, asked = asyncio.Event(), asyncio.Semaphore(0)

    async def probe() -> bool:
        asked.release()
        return answers.is_set()

    breaker = CircuitBreaker(threshold=2, probe_seconds=0.001, probe=probe)

    def opened() -> bool:
        return breaker.is_open

    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    assert not opened(), "only consecutive failures count"
    breaker.failed()
    assert opened()
    async with asyncio.timeout(20):
        for _ in range(3):
            await asked.acquire()
        breaker.failed()
        breaker.succeeded()
        assert opened(), "what was under way when it opened does not close it"
        answers.set()
        while opened():  # noqa: ASYNC110 - told to nobody
            await asyncio.sleep(0.001)
        breaker.failed()
        assert not opened(), "failures count from nought again"
        answers.clear()
        breaker.failed()
        assert opened()
        await breaker.stop()


async def test_an_open_breaker_closes_though_nobody_calls(
    server: EmbeddedServer, store: RedisHistoryStore
) -> None:
    send(server, signal.SIGSTOP)
    await fail(store, 5)
    send(server, signal.SIGCONT)
    async with asyncio.timeout(20):
        while store.is_open:  # noqa: ASYNC110 - told to nobody
            await asyncio.sleep(0.02)
    assert await store.recent("ada", 5) == []

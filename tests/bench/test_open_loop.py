"""What the load generator sees: nothing that was due is left out, however slow the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from bench.client.job import Job, Outcome
from bench.client.loops import run_job
from bench.client.schedule import due_times

STALL_SECONDS = 0.6
GOOD = b'{"source":"model","degraded":[],"items":[]}'
Answer = Callable[[int], Awaitable[tuple[int, bytes]]]


@asynccontextmanager
async def server(answer: Answer, idle_seconds: float | None = None) -> AsyncIterator[int]:
    """Yield the port of a real HTTP server; `answer` gets the number of the request, from 0.

    A connection that is idle for `idle_seconds` is closed.
    """
    seen = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        try:
            while True:
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), idle_seconds)
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                seen += 1
                status, body = await answer(seen - 1)
                if status == 0:
                    break
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n" % (status, len(body)))
                await writer.drain()
                # In pieces, as a network may deliver it.
                writer.write(b"\r\n" + body[:5])
                await writer.drain()
                await asyncio.sleep(0)
                writer.write(body[5:])
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()


async def measured(
    answer: Answer, *, idle_seconds: float | None = None, **changes: object
) -> Outcome:
    async with server(answer, idle_seconds) as port:
        values: dict[str, object] = {
            "port": port,
            "path": "/",
            "bodies": ("{}",),
            "seconds": 1.0,
            "connections": 8,
            "give_up_seconds": 30.0,
            **changes,
        }
        return Outcome.from_json(await run_job(Job(**values)))  # type: ignore[arg-type]


async def at_once(number: int) -> tuple[int, bytes]:
    return 200, GOOD


def stalling() -> Answer:
    """A server that answers nothing for a while, then everything at once."""
    open_at: list[float] = []

    async def answer(number: int) -> tuple[int, bytes]:
        loop = asyncio.get_running_loop()
        if not open_at:
            open_at.append(loop.time() + STALL_SECONDS)
        await asyncio.sleep(max(0.0, open_at[0] - loop.time()))
        return 200, GOOD

    return answer


@pytest.mark.parametrize("connections", [1, 4, 200])
async def test_a_stall_delays_everything_that_was_due_meanwhile(connections: int) -> None:
    # 60 of 100 requests are due while the server stalls. A generator that waits for answers
    # would send `connections` of them and call the rest fast.
    seen = await measured(stalling(), rate=100.0, connections=connections)
    assert seen.requests == seen.good == 100
    assert seen.max_ms >= 1000 * STALL_SECONDS * 0.9
    assert seen.p90_ms >= 1000 * (STALL_SECONDS - 0.1) * 0.9
    assert seen.p50_ms >= 1000 * (STALL_SECONDS - 0.5) * 0.9
    assert not seen.holds(1000 * STALL_SECONDS / 2)


async def test_every_request_that_is_due_is_sent_and_counted() -> None:
    seen = await measured(at_once, rate=50.0, seconds=0.5)
    assert (seen.requests, seen.failed, seen.degraded) == (25, 0, 0)
    assert seen.sources == {"model": 25}
    assert seen.statuses == {"200": 25}
    assert seen.holds(60_000)


async def test_connections_that_the_server_closed_are_opened_again() -> None:
    # Each is idle for longer than the server waits.
    seen = await measured(at_once, idle_seconds=0.1, rate=5.0, seconds=1.0, connections=2)
    assert (seen.requests, seen.good) == (5, 5)


async def test_the_generator_gives_up_on_a_dead_server_and_counts_what_was_due() -> None:
    async def never(number: int) -> tuple[int, bytes]:
        await asyncio.sleep(60)
        return 200, GOOD

    seen = await measured(never, rate=50.0, seconds=20.0, connections=2, give_up_seconds=0.2)
    assert seen.gave_up
    assert seen.failed == seen.requests >= 5
    assert not seen.holds(60_000)


async def test_errors_and_degraded_answers_count_as_endless() -> None:
    async def mixed(number: int) -> tuple[int, bytes]:
        if number % 10 == 0:
            return 429, b"{}"
        if number % 10 == 1:
            return 200, GOOD.replace(b"[]", b'["deadline"]', 1)
        return 200, GOOD

    seen = await measured(mixed, rate=100.0)
    assert (seen.requests, seen.failed, seen.degraded) == (100, 10, 10)
    assert seen.p90_ms == seen.max_ms > 60_000
    assert not seen.holds(60_000)


async def test_a_closed_loop_asks_again_and_notes_broken_connections() -> None:
    async def breaks(number: int) -> tuple[int, bytes]:
        return (0, b"") if number == 3 else (200, GOOD)

    seen = await measured(breaks, seconds=0.3, connections=2)
    assert seen.requests > 4
    assert seen.failed == 1
    assert seen.statuses["0"] == 1


async def test_no_server_is_an_error() -> None:
    async with server(at_once) as port:
        pass
    with pytest.raises(OSError, match=r"refused|Connect"):
        await run_job(Job(port=port, path="/", bodies=("{}",), seconds=1.0))


def test_constant_arrivals_are_evenly_spaced() -> None:
    assert due_times(4, 1.0, "constant", 0) == [0.0, 0.25, 0.5, 0.75]
    assert due_times(0.5, 1.0, "constant", 0) == [0.0]
    assert len(due_times(333, 3.0, "constant", 0)) == 999


def test_poisson_arrivals_have_the_rate_and_never_repeat_the_gap() -> None:
    times = due_times(1000, 10.0, "poisson", 7)
    assert times == due_times(1000, 10.0, "poisson", 7)
    assert times == sorted(times)
    assert times[-1] < 10.0
    assert 9500 < len(times) < 10500
    assert len(set(times)) == len(times)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"rate": 0.0}, "rate is 0.0"),
        ({"seconds": 0.0}, "seconds is 0.0"),
        ({"connections": 0}, "connections is 0"),
        ({"bodies": ()}, "bodies"),
    ],
)
def test_a_job_that_makes_no_sense_is_refused(changes: dict[str, object], part: str) -> None:
    values: dict[str, object] = {"port": 1, "path": "/", "bodies": ("{}",), "seconds": 1.0}
    with pytest.raises(ValueError, match=part):
        Job(**{**values, **changes})  # type: ignore[arg-type]

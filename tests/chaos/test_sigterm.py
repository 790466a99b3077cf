"""Told to end under load, the service answers everybody who comes until its drain is over; killed,
it is back with every history."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service.process import WAIT_SECONDS, serving

pytestmark = pytest.mark.long

CALLERS = 20
USERS = 40


def history(user: int) -> list[str]:
    return [f"i{1 + (user + step) % 100}" for step in range(5)]


async def patiently(ask: Callable[[], Awaitable[httpx.Response]]) -> Any:
    """Return the body of the 200, asking again while the store is too slow."""
    while True:
        response = await ask()
        if response.status_code == 200:
            return response.json()
        assert response.status_code == 503, response.text
        await asyncio.sleep(0.05)


async def tell(client: httpx.AsyncClient, user: int) -> None:
    events = [
        {"user_id": f"u{user}", "item_id": item, "timestamp": 1_700_000_000 + second}
        for second, item in enumerate(history(user))
    ]
    # A store that was too slow has acknowledged nothing: the same again is safe.
    told = await patiently(lambda: client.post("/v1/events", json={"events": events}))
    assert told["rejected"] == 0


async def remembered(client: httpx.AsyncClient, user: int) -> list[str]:
    told = await patiently(lambda: client.get(f"/v1/users/u{user}/history"))
    return [row["item_id"] for row in told["items"]]


async def test_until_the_drain_is_over_nobody_is_failed(tmp_path: Path) -> None:
    statuses: list[int] = []
    with serving(tmp_path, drain_seconds="8", overload_policy="off") as served:
        started = asyncio.Event()

        async def caller(number: int) -> None:
            """Call as behind a load balancer: until readiness is gone, on connections kept."""
            async with httpx.AsyncClient(base_url=served.url, timeout=WAIT_SECONDS) as client:
                while (await client.get("/readyz")).status_code == 200:
                    body: dict[str, Any] = {"user_id": f"u{number}", "k": 3}
                    if number % 4 == 0:
                        await tell(client, number)
                    statuses.append((await client.post("/recommend", json=body)).status_code)
                    if len(statuses) > 3 * CALLERS:
                        started.set()
                # Requests that are on their way when readiness goes are still answered.
                statuses.append((await client.post("/recommend", json=body)).status_code)

        callers = [asyncio.create_task(caller(number)) for number in range(CALLERS)]
        await asyncio.wait_for(started.wait(), WAIT_SECONDS)
        served.process.send_signal(signal.SIGTERM)
        await asyncio.gather(*callers)
        assert set(statuses) == {200}
        assert await asyncio.to_thread(served.process.wait, WAIT_SECONDS) == 0
        assert "Traceback" not in served.log.read_text()


async def test_killed_it_comes_back_with_every_history(tmp_path: Path) -> None:
    for cycle in range(2):
        with serving(tmp_path) as served:
            async with httpx.AsyncClient(base_url=served.url, timeout=WAIT_SECONDS) as client:
                for user in range(USERS * (cycle + 1)):
                    if user >= USERS * cycle:
                        await tell(client, user)
                        continue
                    assert await remembered(client, user) == history(user)
            served.process.send_signal(signal.SIGKILL)
            await asyncio.to_thread(served.process.wait, WAIT_SECONDS)
    with serving(tmp_path) as served:
        async with httpx.AsyncClient(base_url=served.url, timeout=WAIT_SECONDS) as client:
            for user in range(2 * USERS):
                assert await remembered(client, user) == history(user)

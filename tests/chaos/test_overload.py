"""More than the service can take: networks shrink, then requests are refused, then it ends.

The engine takes real time per query, half of it on the small network, so that the load is
too much on every machine. What is asserted is the order of things, not how fast they were.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos.traffic import Seen, crowd
from tests.service.fakes import FULL, SMALL
from tests.service.process import Served, serving

pytestmark = pytest.mark.long

# So slow that the callers cost next to nothing, and that many wait however slow they are.
FULL_SECONDS = 0.4
CALLERS = 30
HISTORY = ["i1", "i2", "i3", "i4", "i5", "i6"]
ENOUGH_REFUSALS = 20
WAIT_SECONDS = 240.0
SHRINKS, REFUSES = "networks shrink", "requests are refused"


def body() -> dict[str, Any]:
    return {"history": HISTORY, "k": 3}


def messages(served: Served) -> list[str]:
    return [line["message"] for line in served.lines()]


def place(found: list[str], words: str) -> int:
    return next((at for at, message in enumerate(found) if words in message), -1)


async def calm(served: Served) -> dict[str, Any]:
    """Return an answer from after the overload."""
    price = 'canet_compute_price_reason{reason="published"} 1.0'
    limit = "canet_admission_limit 256.0"
    async with asyncio.timeout(WAIT_SECONDS):
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as client:
            while True:
                metrics = (await client.get("/metrics")).text
                if price in metrics and limit in metrics:
                    break
                await asyncio.sleep(0.05)
            response = await client.post("/recommend", json=body())
    assert response.status_code == 200
    found: dict[str, Any] = response.json()
    return found


async def exposition(served: Served) -> str:
    async with httpx.AsyncClient(base_url=served.url, timeout=60) as client:
        return (await client.get("/metrics")).text


async def overloaded(served: Served) -> Seen:
    async with asyncio.timeout(WAIT_SECONDS):
        seen = await crowd(
            served.url,
            body,
            callers=CALLERS,
            enough=lambda seen: seen.statuses[429] >= ENOUGH_REFUSALS and len(seen.answers) > 10,
        )
    assert seen.failures == []
    assert set(seen.statuses) == {200, 429}, "all that is not answered is 429"
    for refusal in seen.refusals:
        assert refusal.json()["code"] == "overloaded"
        assert int(refusal.headers["retry-after"]) >= 1
    return seen


def settings(policy: str) -> dict[str, str]:
    return {
        "overload_policy": policy,
        "objective_ms": "4000",
        "max_batch": "2",
        "result_ttl": "0",
    }


async def test_networks_shrink_before_anything_is_refused_and_all_of_it_ends(
    tmp_path: Path,
) -> None:
    engine = f"SlowEngine({FULL_SECONDS})"
    with serving(tmp_path, engine=engine, **settings("shrink_then_shed")) as served:
        seen = await overloaded(served)
        shrunk = [one for one in seen.answers if one["degraded"] == ["overload"]]
        assert shrunk
        assert {one["compute"]["submodel"] for one in shrunk} == {SMALL.name}
        assert {one["compute"]["reason"] for one in shrunk} == {"overload"}
        lines = served.lines()
        found = [line["message"] for line in lines]
        first_refusal = next(at for at, line in enumerate(lines) if line.get("status") == 429)
        assert 0 <= place(found, SHRINKS) < place(found, REFUSES) < first_refusal
        metrics = await exposition(served)
        assert f'canet_degraded_total{{reason="overload"}} {len(shrunk)}.0' in metrics
        refused = seen.statuses[429]
        assert f'canet_refused_total{{reason="overload"}} {refused}.0' in metrics
        answer = await calm(served)
        assert (answer["compute"]["submodel"], answer["degraded"]) == (FULL.name, [])


async def test_shedding_alone_leaves_the_networks_as_they_are(tmp_path: Path) -> None:
    engine = f"SlowEngine({FULL_SECONDS})"
    with serving(tmp_path, engine=engine, **settings("shed")) as served:
        seen = await overloaded(served)
        assert {one["compute"]["submodel"] for one in seen.answers} == {FULL.name}
        assert place(messages(served), SHRINKS) == -1
        assert place(messages(served), REFUSES) >= 0
        assert (await calm(served))["degraded"] == []


async def test_without_protection_the_queues_bound_is_the_only_one(tmp_path: Path) -> None:
    engine = f"SlowEngine({FULL_SECONDS})"
    few = {**settings("off"), "queue_limit": "10"}
    with serving(tmp_path, engine=engine, **few) as served:
        seen = await overloaded(served)
        assert {one["compute"]["submodel"] for one in seen.answers} == {FULL.name}
        assert place(messages(served), "overload") == -1
        metrics = await exposition(served)
        assert f'canet_refused_total{{reason="queue"}} {seen.statuses[429]}.0' in metrics

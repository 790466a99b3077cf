"""A blocked item is shown to nobody: whole service, real checkpoints, two replicas, one store."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.e2e.live import Live, ids, live, until
from tests.models.published import publish_random

HISTORY = ["item-3", "item-9", "item-1"]
# One of each way to an answer: network, popular items, candidates, a filter filled up, a batch.
ASKED: tuple[dict[str, Any], ...] = (
    {"history": HISTORY, "k": 40},
    {"history": HISTORY, "k": 40, "compute": {"mode": "full"}, "exclude_seen": False},
    {"history": HISTORY, "k": 40, "compute": {"deadline_ms": 5}},
    {"user_id": "nobody", "k": 40},
    {"history": ["ghost"], "k": 40},
    {"user_id": "regular", "k": 40},
    {"history": HISTORY, "candidates": ["item-5", "item-6", "item-7"]},
    {"history": ["ghost"], "candidates": ["item-5", "item-6", "item-7"]},
    {
        "history": HISTORY,
        "k": 40,
        "filter": {"must": [{"field": "genres", "any_of": ["noir"]}]},
        "strict_filter": False,
    },
)
BLOCKED = ["item-5", "item-6", "item-12"]


async def shown(service: Live) -> set[str]:
    """Every item that any way to an answer shows."""
    found: set[str] = set()
    for body in (*ASKED, *ASKED):  # the second time from the cache, where there is one
        found |= set(ids(await service.recommend(**body)))
    told = await service.client.post("/v1/recommend/batch", json={"requests": list(ASKED)})
    for result in told.json()["results"]:
        found |= set(ids(result["result"]))
    similar = await service.client.get("/v1/items/item-5/similar?k=50")
    return found | {item["item_id"] for item in similar.json()["items"]}


def shadowed(service: Live) -> bool:
    return bool(service.value("model_info", variant="shadow"))


async def block(service: Live, **body: Any) -> None:
    done = await service.client.post("/v1/admin/blocklist", json=body)
    assert done.status_code == 200, done.text


@pytest.mark.parametrize("candidate_percent", [0, 100])
async def test_no_replica_shows_it_on_any_path_and_a_restart_remembers(
    tmp_path: Path, redis_url: str, candidate_percent: int
) -> None:
    other = publish_random(tmp_path, seed=1)
    publish_random(tmp_path, seed=0)
    changes: dict[str, Any] = {
        "result_ttl": 60,
        "candidate_version": other,
        "candidate_percent": candidate_percent,
        "shadow_version": other,
        "shadow_percent": 100,
    }
    async with live(tmp_path, redis_url, **changes) as one:
        async with live(tmp_path, redis_url, **changes) as two:
            for service in (one, two):
                await until(partial(shadowed, service))
            await one.tell("regular", *HISTORY)
            assert set(BLOCKED) <= await shown(one)
            assert set(BLOCKED) <= await shown(two)
            await block(one, add=BLOCKED)
            assert not set(BLOCKED) & await shown(one)
            await until(lambda: two.metric("blocklist_items") == 3)
            assert not set(BLOCKED) & await shown(two)
            assert one.metric("shadow_requests_total", result="failed") == 0
            # Golden answers were written before anybody blocked anything.
            for service in (one, two):
                done = await service.client.post("/v1/admin/model/reload", json={"version": other})
                assert done.status_code == 200, done.text
                assert not set(BLOCKED) & await shown(service)
            await block(two, remove=["item-12"])
            assert "item-12" in await shown(two)
        async with live(tmp_path, redis_url, **changes) as restarted:
            assert set(BLOCKED[:2]) & await shown(restarted) == set()
            assert "item-12" in await shown(restarted)


async def test_a_store_that_lost_everything_unblocks_nothing(
    tmp_path: Path, redis_url: str
) -> None:
    publish_random(tmp_path, seed=0)
    async with live(tmp_path, redis_url) as service:
        await block(service, add=BLOCKED)
        with redis.Redis.from_url(redis_url) as client:
            client.flushall()
        await asyncio.sleep(0.3)  # several polls
        assert not set(BLOCKED) & await shown(service)

"""A full disk and a read-only one, under everything that writes: refused, told, mended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import redis

from models.checkpoint.errors import CheckpointError, Reason
from models.checkpoint.read import read_checkpoint
from models.checkpoint.store import current, list_versions, rollback_targets, set_current
from models.events import EVENT_STREAMS, stream_key
from service.store.embedded import EmbeddedServer
from tests.chaos.volumes import Volume, volume
from tests.e2e.live import WAIT_SECONDS, Live, ids, live
from tests.models.published import publish_random
from tests.training.refresh.world import acknowledged, walks
from training.refresh.dataset import DataSet
from training.refresh.drain import drain
from training.refresh.upkeep import keep_up

pytestmark = pytest.mark.long

HISTORY = ["item-3", "item-1", "item-7"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Volume]:
    with volume(tmp_path / "disk", mib=16) as made:
        yield made


async def model(service: Live) -> dict[str, Any]:
    found: dict[str, Any] = (await service.client.get("/v1/model")).json()
    return found


async def served(service: Live, version: str) -> None:
    """Return once `version` answers."""
    async with asyncio.timeout(WAIT_SECONDS):
        answer = await service.recommend(history=HISTORY)
        while answer["model_version"] != version:
            await asyncio.sleep(0.02)
            answer = await service.recommend(history=HISTORY)


async def rolled_back_in_memory(service: Live, root: Path, first: str, second: str) -> None:
    """Where CURRENT cannot be written, a rollback serves all the same and says so."""
    await served(service, second)
    response = await service.client.post("/v1/admin/model/rollback")
    assert (response.status_code, response.json()["version"]) == (200, first), response.text
    await served(service, first)
    assert "from memory only" in (await model(service))["problem"]
    assert current(root) == second
    await asyncio.sleep(0.3)  # several polls
    await served(service, first)


def publishing_is_refused(root: Path, reason: Reason) -> None:
    """Neither a new version nor a move of CURRENT gets through, and nothing is left of them."""
    before, versions, ways = current(root), list_versions(root), rollback_targets(root)
    with pytest.raises(CheckpointError) as caught:
        publish_random(root, seed=9)
    assert caught.value.reason is reason
    with pytest.raises(CheckpointError) as caught:
        set_current(root, versions[0])
    assert caught.value.reason is reason
    assert (current(root), list_versions(root), rollback_targets(root)) == (before, versions, ways)
    for version in versions:
        read_checkpoint(root / version)
    assert not list(root.glob(".tmp-*"))


async def test_a_full_model_root_refuses_what_is_new_and_serves_on(
    disk: Volume, redis_url: str
) -> None:
    root = disk.path / "models"
    first, second = publish_random(root, seed=0), publish_random(root, seed=1)
    async with live(root, redis_url) as service:
        disk.fill()
        await asyncio.to_thread(publishing_is_refused, root, Reason.DISK_FULL)
        await rolled_back_in_memory(service, root, first, second)
        disk.free()
        third = await asyncio.to_thread(publish_random, root, 2)
        await served(service, third)
        assert (await model(service))["problem"] is None


async def test_a_read_only_model_root_is_served_and_rolled_back_from_memory(
    disk: Volume, redis_url: str
) -> None:
    root = disk.path / "models"
    first, second = publish_random(root, seed=0), publish_random(root, seed=1)
    disk.read_only(True)
    async with live(root, redis_url) as service:
        await asyncio.to_thread(publishing_is_refused, root, Reason.NOT_WRITABLE)
        await rolled_back_in_memory(service, root, first, second)
        disk.read_only(False)
        third = await asyncio.to_thread(publish_random, root, 2)
        await served(service, third)
        assert (await model(service))["problem"] is None


async def test_a_full_disk_under_the_store_acknowledges_nothing_and_loses_nothing(
    disk: Volume, tmp_path: Path
) -> None:
    publish_random(tmp_path / "models")
    kept: list[str] = []

    async def tell(service: Live, number: int) -> int:
        item = f"item-{1 + number % 39}"
        event = {"user_id": "u", "item_id": item, "timestamp": 1_700_000_000 + number}
        response = await service.client.post("/v1/events", json={"events": [event]})
        if response.status_code == 200:
            kept.append(item)
        else:
            assert (response.status_code, response.json()["code"]) == (503, "store_unavailable")
            assert int(response.headers["retry-after"]) > 0
        return response.status_code

    async def told(service: Live, wanted: int, first: int) -> int:
        """Tell until the status comes; return the next number."""
        async with asyncio.timeout(WAIT_SECONDS):
            number = first
            while await tell(service, number) != wanted:
                number += 1
                await asyncio.sleep(0.05)
        return number + 1

    async def remembered(service: Live) -> list[str]:
        answer = (await service.client.get("/v1/users/u/history?limit=1000")).json()
        return [row["item_id"] for row in answer["items"]]

    store = EmbeddedServer(disk.path / "redis")
    with store:
        async with live(tmp_path / "models", store.url, history_max=1000) as service:
            for number in range(5):
                assert await tell(service, number) == 200
            disk.fill()
            number = await told(service, 503, 5)
            answer = await service.recommend(user_id="u")
            assert ids(answer)
            assert answer["degraded"] == []
            assert await remembered(service) == kept
            disk.free()
            await told(service, 200, number)
            assert await remembered(service) == kept
    with store:  # and once more, from what is on the disk
        async with live(tmp_path / "models", store.url, history_max=1000) as service:
            assert await remembered(service) == kept


async def test_a_full_disk_under_the_data_set_leaves_the_events_in_their_streams(
    disk: Volume, redis_url: str
) -> None:
    events = walks([f"u{n}" for n in range(20)])
    directory = disk.path / "dataset"

    def refresh(client: redis.Redis) -> None:
        with DataSet(directory) as dataset:
            drain(client, dataset, batch_entries=50)
            keep_up(dataset)

    def waiting(client: redis.Redis) -> int:
        return sum(client.xlen(stream_key("canet:1", shard)) for shard in range(EVENT_STREAMS))

    with redis.Redis.from_url(redis_url) as client:
        await acknowledged(redis_url, events[:100])
        refresh(client)
        await acknowledged(redis_url, events[100:])
        left = waiting(client)
        assert left == len(events) - 100
        disk.fill()
        with pytest.raises(OSError, match="No space left"):
            refresh(client)
        assert waiting(client) == left
        disk.free()
        refresh(client)
        assert waiting(client) == 0
    with DataSet(directory) as dataset:
        tables = [pq.read_table(part.path) for part in dataset.parts()]
    found = sorted(
        (row["user_id"], row["item_id"]) for table in tables for row in table.to_pylist()
    )
    assert found == sorted((event.user_id, event.external_id) for event in events)

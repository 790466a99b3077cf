"""Around the loop: events over HTTP, a refresh, the swap, and what the next answer shows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import redis
import torch
from prometheus_client import CollectorRegistry

from models.checkpoint.read import read_checkpoint
from models.checkpoint.store import current
from models.events import EVENT_STREAMS, KEY_PREFIX, stream_key
from service.store.contract import Interaction
from tests.e2e.live import Live, ids, live
from tests.training.refresh.world import one_epoch, walks, write_csv
from training.progress import Silent
from training.refresh.errors import RefusedError
from training.refresh.gate import Gate
from training.refresh.metrics import RefreshMetrics
from training.refresh.refresh import Refreshed, RefreshRequest, Source, refresh

ITEMS = 40
GONE = "gone-user-8c1f"
ONLY_GONE = "only-gone-met-it"
LENIENT = Gate(tolerance=1.0, min_saved=-1.0, max_saved=1.0)


@pytest.fixture
def request_(redis_url: str, tmp_path: Path) -> Iterator[RefreshRequest]:
    before = torch.get_num_threads()
    plan = one_epoch(tmp_path / "models")
    data = write_csv(tmp_path / "data.csv", walks([f"u{n}" for n in range(40)], items=ITEMS))
    yield RefreshRequest(
        plan=plan,
        dataset=tmp_path / "dataset",
        redis_url=redis_url,
        source=Source(data=data),
        gate=LENIENT,
        keep=5,
        always=True,
    )
    torch.set_num_threads(before)
    # Training flushes denormals for the process, which other tests' floats do not expect.
    torch.set_flush_denormal(False)


async def refreshed(asked: RefreshRequest) -> Refreshed:
    # A run has its own plan of training: what the live model was trained with starts it.
    return await asyncio.to_thread(refresh, asked, RefreshMetrics(CollectorRegistry()), Silent())


async def acknowledged(service: Live, rows: Sequence[Interaction]) -> None:
    """Send the rows as clients do."""
    for start in range(0, len(rows), 500):
        events = [
            {
                "user_id": row.user_id,
                "item_id": row.external_id,
                "timestamp": row.timestamp_ms / 1000,
                "event_id": row.event_id,
            }
            for row in rows[start : start + 500]
        ]
        told = await service.client.post("/v1/events", json={"events": events})
        assert told.json()["accepted"] == len(events), told.text


async def serving(service: Live, version: str) -> None:
    async with asyncio.timeout(60):
        while (await service.client.get("/v1/model")).json()["version"] != version:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def one_more(user: str, item: str, second: int) -> Interaction:
    return Interaction(
        user_id=user,
        external_id=item,
        timestamp_ms=1_790_000_000_000 + 1000 * second,
        event_id=f"{user}-{item}-{second}",
    )


def holding(directory: Path, needle: str) -> list[Path]:
    """The files below `directory` that hold the text, compressed columns read."""
    return [
        path
        for path in sorted(directory.rglob("*"))
        if path.is_file()
        and (
            needle.encode() in path.read_bytes()
            or (path.suffix == ".parquet" and needle in str(pq.read_table(path).to_pydict()))
        )
    ]


async def test_new_items_come_vanished_ones_go_and_the_forgotten_are_forgotten(
    request_: RefreshRequest, redis_url: str, tmp_path: Path
) -> None:
    root = request_.plan.out
    first = await refreshed(request_)
    assert first.model is not None
    every: dict[str, Any] = {"k": 60, "exclude_seen": False}
    async with live(root, redis_url, result_ttl=60) as service:
        before = ids(await service.recommend(history=["i1", "i3"], **every))
        assert len(before) == ITEMS
        # New items, met by new users; one item that one user alone met; one that vanishes.
        new_users = walks([f"v{n}" for n in range(20)], items=45, seed=1)
        assert any(row.external_id == "i7" for row in new_users), "events keep an item alive"
        await acknowledged(service, new_users)
        mine = [*walks([GONE], items=ITEMS, seed=2), one_more(GONE, ONLY_GONE, 1)]
        await acknowledged(service, mine)
        fewer = write_csv(
            tmp_path / "fewer.csv",
            [
                row
                for row in walks([f"u{n}" for n in range(40)], items=ITEMS)
                if row.external_id != "i7"
            ],
        )
        second = await refreshed(replace(request_, source=Source(data=fewer)))
        assert second.model is not None
        await serving(service, second.model.version)
        after = await service.recommend(history=["i1", "i3"], **every)
        assert after["model_version"] == second.model.version
        assert {"i40", "i44", "i7", ONLY_GONE} <= set(ids(after))
        new = await service.recommend(history=["i42", "i44"], k=5)
        assert (new["source"], new["missing_items"], new["history_length"]) == ("model", [], 2)
        assert read_checkpoint(root / second.model.version).manifest.training["warm"] is True

        # Forgotten: at once where answers are made, at the next refresh where they are learnt.
        path = f"/v1/users/{GONE}/history"
        assert (await service.recommend(user_id=GONE, k=5))["source"] == "model"
        assert holding(request_.dataset, GONE)
        assert (await service.client.delete(path)).status_code == 204
        assert (await service.client.get(path)).json() == {"items": [], "length": 0}
        assert (await service.recommend(user_id=GONE, k=5))["source"] == "popular"
        with redis.Redis.from_url(redis_url) as client:
            held = [key for key in client.scan_iter() if GONE.encode() in key]
            # That something changed, and when it was forgotten; a day at most.
            assert {key.rsplit(b":", 1)[1] for key in held} == {b"v", b"d"}
            assert all(0 < client.ttl(key) <= 86400 for key in held)
            await acknowledged(service, [one_more("v1", "i3", 9)])
            third = await refreshed(replace(request_, source=Source(data=fewer)))
            assert third.model is not None
            await serving(service, third.model.version)
            streams = [stream_key(KEY_PREFIX, shard) for shard in range(EVENT_STREAMS)]
            assert sum(client.xlen(stream) for stream in streams) == 0
            assert client.keys("canet:1:wish:*") == [], "heard"
        assert holding(request_.dataset, GONE) == []
        assert ONLY_GONE not in read_checkpoint(root / third.model.version).catalog
        assert holding(root / third.model.version, GONE) == []
        answer = await service.recommend(history=["i1"], candidates=[ONLY_GONE, "i3"], k=5)
        assert (ids(answer), answer["missing_items"]) == (["i3"], [ONLY_GONE])
        assert ONLY_GONE not in ids(await service.recommend(history=["i1", "i3"], **every))

        # What the user does afterwards counts again.
        await acknowledged(service, [one_more(GONE, "i3", 20)])
        again = await service.recommend(user_id=GONE, k=5)
        assert (again["source"], again["history_length"]) == ("model", 1)

        # Everything about i7 is too old to count: it goes, and is unknown where it is met.
        assert current(root) == third.model.version
        recent = [one_more(f"w{n % 25}", f"i{(n * 3) % 35 + 8}", 100 + n) for n in range(400)]
        await acknowledged(service, recent)
        recently = replace(request_, source=None, max_age_days=30)
        with pytest.raises(RefusedError, match="are gone") as caught:
            await refreshed(recently)
        assert caught.value.reason == "size"
        assert current(root) == third.model.version, "refused: the live model stays"
        fourth = await refreshed(replace(recently, gate=replace(LENIENT, max_shrink=1.0)))
        assert fourth.model is not None
        await serving(service, fourth.model.version)
        answer = await service.recommend(history=["i7", "i11"], **every)
        assert answer["missing_items"] == ["i7"]
        assert answer["history_length"] == 1
        assert "i7" not in ids(answer)

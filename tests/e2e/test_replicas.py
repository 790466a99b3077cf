"""Two replicas, one store: what one acknowledged is in the next answer of the other."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from service.engine.contract import Query
from tests.e2e.live import engine_of, ids, live
from tests.models.published import publish_random

ITEMS = [f"item-{row}" for row in range(1, 41)]
K = 8


@pytest.mark.parametrize("result_ttl", [0, 60])
async def test_whoever_acknowledged_it_everybody_answers_with_it(
    tmp_path: Path, redis_url: str, result_ttl: int
) -> None:
    version = publish_random(tmp_path)
    engine = engine_of(tmp_path, version)
    changes = {"result_ttl": result_ttl, "reload_poll_seconds": 3600}
    sources: list[str] = []

    async def user(name: str, seed: int) -> None:
        generator = random.Random(seed)
        history: list[str] = []
        for second in range(12):
            item = generator.choice(ITEMS)
            event = {"user_id": name, "item_id": item, "timestamp": 1_700_000_000 + second}
            writer = generator.choice(replicas)
            told = await writer.client.post("/v1/events", json={"events": [event]})
            assert told.json()["accepted"] == 1
            history.append(item)
            for reader in (*replicas, *replicas):
                answer = await reader.recommend(user_id=name, k=K)
                (ranking,), _ = engine.recommend([Query(history=tuple(history), k=K)])
                assert ids(answer) == [one.external_id for one in ranking.items]
                assert answer["model_version"] == version
                sources.append(answer["source"])
        # What is forgotten through one is known to none.
        path = f"/v1/users/{name}/history"
        assert (await replicas[seed % 2].client.delete(path)).status_code == 204
        for reader in replicas:
            assert (await reader.recommend(user_id=name, k=K))["source"] == "popular"

    async with (
        live(tmp_path, redis_url, **changes) as one,
        live(tmp_path, redis_url, **changes) as two,
    ):
        replicas = [one, two]
        await asyncio.gather(*(user(f"u{seed}", seed) for seed in range(6)))
    assert ("cache" in sources) == (result_ttl > 0)


async def test_a_sessions_history_is_the_users_after_the_login(
    tmp_path: Path, redis_url: str
) -> None:
    version = publish_random(tmp_path)
    engine = engine_of(tmp_path, version)
    async with (
        live(tmp_path, redis_url, result_ttl=60) as one,
        live(tmp_path, redis_url, result_ttl=60) as two,
    ):
        await one.tell("ada", "item-4", "item-5")
        session = ["item-9", "item-3"]
        # Before anybody is known the caller holds the history.
        without = await one.recommend(history=session, k=K)
        (ranking,), _ = engine.recommend([Query(history=tuple(session), k=K)])
        assert ids(without) == [item.external_id for item in ranking.items]
        events = [
            {"user_id": "session-1", "item_id": item, "timestamp": 1_700_000_100 + second}
            for second, item in enumerate(session)
        ]
        await one.client.post("/v1/events", json={"events": events})
        for _ in range(2):  # sent again, as after a lost answer
            done = await two.client.post(
                "/v1/users/ada/merge", json={"source_user_id": "session-1"}
            )
            assert (done.status_code, done.json()["length"]) == (200, 4)
        merged = ("item-4", "item-5", *session)
        (ranking,), _ = engine.recommend([Query(history=merged, k=K)])
        for replica in (one, two):
            answer = await replica.recommend(user_id="ada", k=K)
            assert ids(answer) == [item.external_id for item in ranking.items]
            left = await replica.recommend(user_id="session-1", k=K)
            assert left["source"] == "popular"

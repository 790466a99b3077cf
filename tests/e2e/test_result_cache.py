"""No answer is stale: what was acknowledged before a question was asked is in its answer.

Users act at the same time, each in an order of their own, against one service with a result
cache over a real store, while models are exchanged. Every answer is compared with what an engine
of its own makes of the history that this user knows to be acknowledged.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.engine.contract import Compute, Query
from service.engine.torch_engine import TorchEngine
from tests.e2e.live import Live, engine_of, ids, live
from tests.models.published import publish_random

K = 5
ITEMS = [f"item-{row}" for row in range(1, 7)]
STEP = st.one_of(
    st.tuples(st.just("see"), st.sampled_from(ITEMS)),
    st.tuples(st.just("ask"), st.sampled_from(["auto", "full"])),
    st.tuples(st.just("ask"), st.sampled_from(["auto", "full"])),
    st.tuples(st.just("forget"), st.none()),
    st.tuples(st.just("replace"), st.lists(st.sampled_from(ITEMS), max_size=3)),
)
USERS = st.lists(st.lists(STEP, max_size=14), min_size=1, max_size=5)
EXCHANGES = st.integers(0, 4)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    publish_random(directory, seed=0)
    publish_random(directory, seed=1)
    return directory


@pytest.fixture(scope="module")
def engines(root: Path) -> dict[str, TorchEngine]:
    return {path.name: engine_of(root, path.name) for path in root.iterdir() if path.is_dir()}


@dataclass
class Models:
    """Which versions were asked to serve, in order, and how many of these were acknowledged."""

    asked: list[str]
    acknowledged: int = 1

    async def exchange(self, service: Live, names: list[str], times: int) -> None:
        for _ in range(times):
            self.asked.append(next(name for name in names if name != self.asked[-1]))
            answer = await service.client.post(
                "/v1/admin/model/reload", json={"version": self.asked[-1]}
            )
            assert answer.status_code == 200, answer.text
            self.acknowledged = len(self.asked)


@dataclass
class User:
    """One user's own knowledge of what was acknowledged."""

    name: str
    service: Live
    engines: dict[str, TorchEngine]
    models: Models
    history: list[str] = field(default_factory=list)
    seconds: int = 1_700_000_000
    sources: Counter[str] = field(default_factory=Counter)

    async def follow(self, steps: list[tuple[str, Any]]) -> None:
        path = f"/v1/users/{self.name}/history"
        client = self.service.client
        for kind, what in steps:
            if kind == "see":
                event = {"user_id": self.name, "item_id": what, "timestamp": self.now()}
                told = await client.post("/v1/events", json={"events": [event]})
                assert told.json()["accepted"] == 1
                self.history.append(what)
            elif kind == "forget":
                assert (await client.delete(path)).status_code == 204
                self.history = []
            elif kind == "replace":
                items = [{"item_id": item, "timestamp": self.now()} for item in what]
                assert (await client.put(path, json={"items": items})).status_code == 200
                self.history = list(what)
            else:
                await self.ask(what)

    async def ask(self, mode: Any) -> None:
        first = self.models.acknowledged - 1
        told = await self.service.recommend(user_id=self.name, k=K, compute={"mode": mode})
        version = told["model_version"]
        assert version in self.models.asked[first:]
        self.sources[told["source"]] += 1
        if not self.history:
            assert told["source"] == "popular"
            return
        query = Query(history=tuple(self.history), k=K, compute=Compute(mode=mode))
        (ranking,), _ = self.engines[version].recommend([query])
        assert ids(told) == [item.external_id for item in ranking.items]
        assert told["history_length"] == ranking.history_length
        assert told["compute"]["submodel"] == ranking.submodel

    def now(self) -> int:
        self.seconds += 1
        return self.seconds


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=USERS, exchanges=EXCHANGES)
def test_no_answer_is_older_than_what_was_acknowledged(
    root: Path,
    redis_server_url: str,
    engines: dict[str, TorchEngine],
    steps: list[list[tuple[str, Any]]],
    exchanges: int,
) -> None:
    async def run() -> None:
        async with live(root, redis_server_url, result_ttl=60, reload_poll_seconds=3600) as service:
            serving = (await service.client.get("/v1/model")).json()["version"]
            models = Models([serving])
            users = [
                User(f"{uuid.uuid4().hex}", service, engines, models) for _ in range(len(steps))
            ]
            await asyncio.gather(
                models.exchange(service, sorted(engines), exchanges),
                *(user.follow(one) for user, one in zip(users, steps, strict=True)),
            )

    asyncio.run(run())


async def test_the_same_question_is_answered_from_the_cache_until_something_changes(
    root: Path, redis_url: str
) -> None:
    async with live(root, redis_url, result_ttl=60) as service:
        await service.tell("u", "item-1", "item-2")
        await service.tell("v", "item-1", "item-2")
        sources = [(await service.recommend(user_id=user))["source"] for user in ("u", "u", "v")]
        assert sources == ["model", "cache", "cache"]
        await service.tell("u", "item-1", "item-2", "item-3")
        assert (await service.recommend(user_id="u"))["source"] == "model"
        assert (await service.recommend(user_id="v"))["source"] == "cache"

"""A new checkpoint under load, a corrupted one, and the way back."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from models.checkpoint.store import current, set_current
from service.engine.contract import Query
from service.engine.torch_engine import TorchEngine
from tests.e2e.live import Live, engine_of, ids, live, until
from tests.models.published import publish_random

CLIENTS = 8
HISTORIES = [tuple(f"item-{1 + (n * 7 + step * 3) % 40}" for step in range(n)) for n in range(1, 9)]


def expected(engine: TorchEngine) -> dict[tuple[str, ...], list[str]]:
    rankings, _ = engine.recommend([Query(history=history) for history in HISTORIES])
    return {
        history: [item.external_id for item in ranking.items]
        for history, ranking in zip(HISTORIES, rankings, strict=True)
    }


def corrupt(version: Path) -> None:
    """Flip one bit in the middle of the tensors."""
    tensors = version / "model.safetensors"
    content = bytearray(tensors.read_bytes())
    content[len(content) // 2] ^= 1
    tensors.write_bytes(content)


async def test_a_swap_under_load_fails_nobody_and_mixes_nothing(
    tmp_path: Path, redis_url: str
) -> None:
    first = publish_random(tmp_path, seed=0)
    stop = asyncio.Event()
    answers: list[tuple[tuple[str, ...], dict[str, Any]]] = []

    async def client(service: Live, place: int) -> None:
        history = HISTORIES[place]
        while not stop.is_set():
            response = await service.client.post("/recommend", json={"history": list(history)})
            assert response.status_code == 200, response.text
            answer = response.json()
            assert response.headers["x-model-version"] == answer["model_version"]
            answers.append((history, answer))

    async with live(tmp_path, redis_url) as service:

        def served() -> Counter[str]:
            return Counter(answer["model_version"] for _, answer in answers)

        async with asyncio.TaskGroup() as group:
            for place in range(CLIENTS):
                group.create_task(client(service, place))
            await until(lambda: served()[first] >= CLIENTS)
            second = await asyncio.to_thread(publish_random, tmp_path, 1)
            await until(lambda: served()[second] >= 5 * CLIENTS)
            stop.set()
        assert current(tmp_path) == second
        assert service.metric("model_reloads_total", result="loaded") == 2
        assert (await service.client.get("/v1/model")).json()["version"] == second

    truth = {version: expected(engine_of(tmp_path, version)) for version in (first, second)}
    assert truth[first] != truth[second]
    for history, answer in answers:
        assert ids(answer) == truth[answer["model_version"]][history]


async def test_a_corrupted_checkpoint_is_refused_and_a_rollback_goes_back(
    tmp_path: Path, redis_url: str
) -> None:
    root, elsewhere = tmp_path / "models", tmp_path / "elsewhere"
    first = publish_random(root, seed=0)
    history = HISTORIES[3]
    of_first = expected(engine_of(root, first))[history]

    async with live(root, redis_url) as service:

        async def answer() -> tuple[str, list[str]]:
            told = await service.recommend(history=list(history))
            return told["model_version"], ids(told)

        def refused() -> float:
            return service.metric("model_reloads_total", result="refused")

        assert await answer() == (first, of_first)
        second = await asyncio.to_thread(publish_random, root, 1)
        of_second = expected(engine_of(root, second))[history]
        await until(lambda: service.metric("model_reloads_total", result="loaded") == 2)
        assert await answer() == (second, of_second)

        third = await asyncio.to_thread(publish_random, elsewhere, 2)
        corrupt(shutil.copytree(elsewhere / third, root / third))
        set_current(root, third)
        await until(lambda: refused() >= 1)
        assert await answer() == (second, of_second)
        assert (await service.client.get("/readyz")).status_code == 200

        count = refused()
        reload = await service.client.post("/v1/admin/model/reload", json={"version": third})
        problem = reload.json()
        assert (reload.status_code, problem["code"]) == (422, "reload_refused")
        assert "model.safetensors" in problem["detail"]
        assert str(tmp_path) not in reload.text
        assert refused() == count + 1
        assert await answer() == (second, of_second)

        rollback = await service.client.post("/v1/admin/model/rollback")
        assert rollback.status_code == 200, rollback.text
        back = rollback.json()["version"]
        assert current(root) == back == first
        assert await answer() == (first, of_first)
        assert service.metric("model_reloads_total", result="rolled_back") == 1

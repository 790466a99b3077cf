"""Swaps and rollbacks under load: nobody fails, and no answer mixes two versions.

10 swaps over at least 5,000 requests by default; CANET_CHAOS_SWAPS=100 CANET_CHAOS_REQUESTS=200000
runs the long version. The latency of requests during a swap is told, not asserted: run it with
`pytest -s` on a quiet machine.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.checkpoint.store import current, set_current
from service.engine.contract import Query
from tests.e2e.live import Live, engine_of, ids, live, until
from tests.models.published import publish_random

pytestmark = pytest.mark.long

SWAPS = int(os.environ.get("CANET_CHAOS_SWAPS", "10"))
REQUESTS = int(os.environ.get("CANET_CHAOS_REQUESTS", "5000"))
CLIENTS = 4
HISTORIES = [
    tuple(f"item-{1 + (n * 7 + step * 3) % 40}" for step in range(1 + n % 9)) for n in range(32)
]


def truth_of(root: Path, version: str) -> dict[tuple[tuple[str, ...], str], list[str]]:
    """What one version answers, by history and submodel."""
    engine = engine_of(root, version)
    found: dict[tuple[tuple[str, ...], str], list[str]] = {}
    for history in HISTORIES:
        (ranking,) = engine.recommend([Query(history=history)])[0]
        assert ranking.submodel is not None
        found[history, ranking.submodel] = [item.external_id for item in ranking.items]
    return found


async def test_swaps_and_rollbacks_under_load_fail_nobody_and_mix_nothing(
    tmp_path: Path, redis_url: str
) -> None:
    versions = [publish_random(tmp_path, seed=seed) for seed in range(3)]
    truth = {version: truth_of(tmp_path, version) for version in versions}
    answers: Counter[str] = Counter()
    faults: list[str] = []
    times: list[tuple[float, float]] = []
    swaps: list[tuple[float, float]] = []
    done = asyncio.Event()

    async def client(service: Live, place: int) -> None:
        number = place
        while not done.is_set():
            history = HISTORIES[number % len(HISTORIES)]
            number += CLIENTS
            began = time.perf_counter()
            response = await service.client.post("/recommend", json={"history": list(history)})
            times.append((began, time.perf_counter() - began))
            if response.status_code != 200:
                faults.append(f"{response.status_code}: {response.text[:200]}")
                continue
            answer: dict[str, Any] = response.json()
            version = answer["model_version"]
            expected = truth[version].get((history, answer["compute"]["submodel"]))
            if response.headers["x-model-version"] != version or ids(answer) != expected:
                faults.append(f"{version} mixed: {response.text[:300]}")
            if answer["degraded"] or answer["variant"] != "stable":
                faults.append(f"degraded: {response.text[:300]}")
            answers[version] += 1

    async def swap(service: Live, number: int) -> None:
        """Every third is a rollback, every third a reload by name, the rest follow CURRENT."""
        before = service.metric("model_loaded_timestamp_seconds", variant="stable")
        served = (await service.client.get("/v1/model")).json()["version"]
        if number % 3 == 2:
            response = await service.client.post("/v1/admin/model/rollback")
            assert response.status_code == 200, response.text
            assert response.json()["version"] == current(tmp_path) != served
            return
        wanted = next(
            version for version in (*versions[number % 3 :], *versions) if version != served
        )
        if number % 3 == 1:
            body = {"version": wanted}
            response = await service.client.post("/v1/admin/model/reload", json=body)
            assert (response.status_code, response.json()["version"]) == (200, wanted)
            await asyncio.to_thread(set_current, tmp_path, wanted)
            return
        await asyncio.to_thread(set_current, tmp_path, wanted)
        if current(tmp_path) == wanted != served:
            await until(
                lambda: service.metric("model_loaded_timestamp_seconds", variant="stable") != before
            )

    async with live(tmp_path, redis_url) as service, asyncio.TaskGroup() as group:
        for place in range(CLIENTS):
            group.create_task(client(service, place))
        for number in range(SWAPS):
            least = (number + 1) * REQUESTS // (SWAPS + 1)
            while sum(answers.values()) < least and not faults:  # noqa: ASYNC110 - clients count
                await asyncio.sleep(0.01)
            began = time.perf_counter()
            await swap(service, number)
            swaps.append((began, time.perf_counter()))
        while sum(answers.values()) < REQUESTS and not faults:  # noqa: ASYNC110 - clients count
            await asyncio.sleep(0.01)
        done.set()
    assert faults == []
    assert sum(answers.values()) >= REQUESTS
    assert len(answers) >= 2
    _report(times, swaps, answers)


def _report(
    times: list[tuple[float, float]], swaps: list[tuple[float, float]], answers: Counter[str]
) -> None:
    began = np.array([start for start, _ in times])
    took = np.array([seconds for _, seconds in times]) * 1000
    during = np.zeros(len(times), dtype=np.bool_)
    for start, stop in swaps:
        during |= (began + took / 1000 >= start) & (began <= stop)
    told = [f"{len(times)} requests, {len(swaps)} swaps, {len(answers)} versions, 0 failed"]
    for name, chosen in (("during a swap", during), ("outside", ~during)):
        if chosen.any():
            p50, p99 = np.percentile(took[chosen], (50, 99))
            told.append(f"{name}: {chosen.sum()} requests, p50 {p50:.2f} ms, p99 {p99:.2f} ms")
    sys.stdout.write("\n" + "\n".join(told) + "\n")

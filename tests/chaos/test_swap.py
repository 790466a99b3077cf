"""Swaps and rollbacks under load: nobody fails, and no answer mixes two versions.

The service runs as a process of its own. 6 swaps over at least 3,000 requests by default;
CANET_CHAOS_SWAPS=100 CANET_CHAOS_REQUESTS=200000 runs the long version. CANET_CHAOS_RATE bounds the
requests per second (0: as fast as they are answered), and CANET_CHAOS_ITEMS takes a model of
realistic width with so many items in place of a tiny one. How long requests took during a swap is
told, not asserted: run it with `pytest -s` on a quiet machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from bench.client.asker import Asker, Reply
from bench.machine import split_cores
from bench.processes import Server, free_port, python, running
from bench.synthetic_checkpoint import SyntheticModel, item_id, publish_synthetic
from bench.synthetic_users import make_histories
from models.checkpoint.store import current, set_current
from service.engine.contract import Query
from service.store.contract import HistoryEntry
from tests.e2e.live import KEY, engine_of, ids
from tests.models.published import publish_random
from tests.training.refresh.world import store_at

pytestmark = pytest.mark.long

SWAPS = int(os.environ.get("CANET_CHAOS_SWAPS", "6"))
REQUESTS = int(os.environ.get("CANET_CHAOS_REQUESTS", "3000"))
RATE = float(os.environ.get("CANET_CHAOS_RATE", "0"))
ITEMS = int(os.environ.get("CANET_CHAOS_ITEMS", "0"))
CALLERS = 4
USERS = 32
K = 10
WAIT_SECONDS = 120.0

History = tuple[str, ...]
Truth = dict[tuple[int, str], list[str]]


@dataclass(slots=True)
class Seen:
    """What the callers saw: answers by version, and what should not have been."""

    answers: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    times: list[tuple[float, float]] = field(default_factory=list)
    swaps: list[tuple[float, float]] = field(default_factory=list)


def published(root: Path) -> tuple[list[str], list[History]]:
    """Publish three versions of different weights; return them and what the users did."""
    if not ITEMS:
        histories = [
            tuple(f"item-{1 + (n * 7 + step * 3) % 40}" for step in range(1 + n % 9))
            for n in range(USERS)
        ]
        return [publish_random(root, seed=seed) for seed in range(3)], histories
    drawn = make_histories(users=USERS, items=ITEMS, length=30, most=50)
    versions = [
        publish_synthetic(root, SyntheticModel(items=ITEMS, seed=seed), drawn) for seed in range(3)
    ]
    return versions, [tuple(item_id(row) for row in rows) for rows in drawn.rows]


def truth_of(root: Path, version: str, histories: list[History]) -> Truth:
    """What one version answers, by user and submodel."""
    engine = engine_of(root, version)
    found: Truth = {}
    for user, history in enumerate(histories):
        (ranking,) = engine.recommend([Query(history=history, k=K)])[0]
        assert ranking.submodel is not None
        found[user, ranking.submodel] = [item.external_id for item in ranking.items]
    return found


def question(number: int, histories: list[History]) -> tuple[int, str]:
    """Return who asks, and how: by user id or history; every fourth may be answered from memory."""
    user = number // 2 % USERS
    who = {"user_id": f"u{user}"} if number % 2 else {"history": list(histories[user])}
    alone = {} if number % 8 < 2 else {"exclude_items": [f"nothing-{number}"]}
    return user, json.dumps({**who, **alone, "k": K})


async def remember(url: str, histories: list[History]) -> None:
    store = store_at(url)
    for user, history in enumerate(histories):
        entries = [
            HistoryEntry(external_id=item, timestamp_ms=1_700_000_000_000 + place)
            for place, item in enumerate(history)
        ]
        await store.replace(f"u{user}", entries)
    await store.close()


class Chaos:
    """One service under load, swapped again and again."""

    def __init__(self, root: Path, port: int, histories: list[History]) -> None:
        self.root = root
        self.histories = histories
        self.seen = Seen()
        self._port = port
        self._numbers = count()
        self._began = time.perf_counter()
        self._done = False
        self._admin = self._asker()

    def _asker(self) -> Asker:
        return Asker(self._port, headers={"X-API-Key": KEY})

    async def run(self, versions: list[str], truth: dict[str, Truth]) -> None:
        self._began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(self._caller(truth))
            try:
                for number in range(SWAPS):
                    await self._answered((number + 1) * REQUESTS // (SWAPS + 1))
                    began = time.perf_counter()
                    await self._swap(versions, number)
                    self.seen.swaps.append((began, time.perf_counter()))
                await self._answered(REQUESTS)
            finally:
                self._done = True

    async def _answered(self, least: int) -> None:
        while sum(self.seen.answers.values()) < least and not self.seen.faults:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    async def _caller(self, truth: dict[str, Truth]) -> None:
        asker = self._asker()
        while not self._done:
            number = next(self._numbers)
            user, body = question(number, self.histories)
            due = time.perf_counter()
            if RATE:
                due = self._began + number / RATE
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
            reply = await asker.ask("POST", "/recommend", body)
            self.seen.times.append((due, time.perf_counter() - due))
            self._judge(reply, user, truth)
        asker.close()

    def _judge(self, reply: Reply, user: int, truth: dict[str, Truth]) -> None:
        seen = self.seen
        if reply.status != 200:
            seen.faults.append(f"{reply.status}: {reply.body[:300]!r}")
            return
        answer = json.loads(reply.body)
        version = answer["model_version"]
        expected = truth[version].get((user, answer["compute"]["submodel"]))
        if reply.header("x-model-version") != version or ids(answer) != expected:
            seen.faults.append(f"mixed: {reply.body[:300]!r}, expected {expected}")
        if answer["degraded"] or answer["variant"] != "stable":
            seen.faults.append(f"degraded: {reply.body[:300]!r}")
        seen.answers[version] += 1
        seen.sources[answer["source"]] += 1

    async def _swap(self, versions: list[str], number: int) -> None:
        """Every third is a rollback, every third a reload by name, the rest follow CURRENT."""
        served = await self._served()
        if number % 3 == 2:
            assert await self._told("rollback", "") == current(self.root) != served
            return
        wanted = next(name for name in (*versions[number % 3 :], *versions) if name != served)
        if number % 3 == 1:
            assert await self._told("reload", json.dumps({"version": wanted})) == wanted
            await asyncio.to_thread(set_current, self.root, wanted)
            return
        await asyncio.to_thread(set_current, self.root, wanted)
        async with asyncio.timeout(WAIT_SECONDS):
            while await self._served() != wanted:  # noqa: ASYNC110 - another process swaps
                await asyncio.sleep(0.02)

    async def _told(self, what: str, body: str) -> str:
        """Have it done, and return what serves then; while the service looks at CURRENT, wait."""
        async with asyncio.timeout(WAIT_SECONDS):
            reply = await self._admin.ask("POST", f"/v1/admin/model/{what}", body)
            while reply.status == 409:
                await asyncio.sleep(0.02)
                reply = await self._admin.ask("POST", f"/v1/admin/model/{what}", body)
        assert reply.status == 200, reply.body
        version: str = json.loads(reply.body)["version"]
        return version

    async def _served(self) -> str:
        reply = await self._admin.ask("GET", "/v1/model")
        version: str = json.loads(reply.body)["version"]
        return version


def serving(
    directory: Path, root: Path, redis_url: str, port: int
) -> AbstractContextManager[Server]:
    return running(
        "canet serve",
        python("-m", "cli.main", "serve"),
        port=port,
        log=directory / "service.log",
        environ={
            "CANET_PORT": str(port),
            "CANET_MODEL_ROOT": str(root),
            "CANET_REDIS_URL": redis_url,
            "CANET_API_KEYS": f"read+write+admin:{KEY}",
            "CANET_DEADLINE_MS": "60000",
            "CANET_REDIS_OP_TIMEOUT_MS": "10000",
            "CANET_REDIS_WRITE_TIMEOUT_MS": "10000",
            "CANET_REDIS_CONNECT_TIMEOUT_MS": "10000",
            "CANET_OVERLOAD_POLICY": "off",
            "CANET_RELOAD_POLL_SECONDS": "0.05",
            "CANET_DRAIN_SECONDS": "0",
            "CANET_LOG_LEVEL": "WARNING",
        },
        cores=split_cores().server,
    )


async def test_swaps_and_rollbacks_under_load_fail_nobody_and_mix_nothing(
    tmp_path: Path, redis_url: str
) -> None:
    root = tmp_path / "models"
    versions, histories = published(root)
    truth = {version: truth_of(root, version, histories) for version in versions}
    await remember(redis_url, histories)
    port = free_port()
    with serving(tmp_path, root, redis_url, port):
        chaos = Chaos(root, port, histories)
        await chaos.run(versions, truth)
    seen = chaos.seen
    assert seen.faults == []
    assert sum(seen.answers.values()) >= REQUESTS
    assert len(seen.swaps) == SWAPS
    assert len(seen.answers) >= 2
    assert seen.sources.keys() == {"model", "cache"}
    _report(seen)


def _report(seen: Seen) -> None:
    began = np.array([start for start, _ in seen.times])
    took = np.array([seconds for _, seconds in seen.times]) * 1000
    during = np.zeros(len(began), dtype=np.bool_)
    for start, stop in seen.swaps:
        during |= (began + took / 1000 >= start) & (began <= stop)
    seconds = float((began + took / 1000).max() - began.min())
    swap_ms = np.array([stop - start for start, stop in seen.swaps]) * 1000
    told = [
        f"{len(began)} requests in {seconds:.0f} s ({len(began) / seconds:.0f} /s), "
        f"{len(seen.swaps)} swaps of {np.median(swap_ms):.0f} ms, {len(seen.answers)} versions, "
        f"{seen.sources['cache']} answers from memory, 0 failed, 0 mixed"
    ]
    p99s = []
    for name, chosen in (("during a swap", during), ("outside", ~during)):
        if chosen.any():
            p50, p99 = np.percentile(took[chosen], (50, 99))
            p99s.append(p99)
            told.append(f"{name}: {chosen.sum()} requests, p50 {p50:.2f} ms, p99 {p99:.2f} ms")
    if len(p99s) == 2:
        told.append(f"p99 during a swap over p99 outside: {p99s[0] / p99s[1]:.2f}")
    sys.stdout.write("\n" + "\n".join(told) + "\n")

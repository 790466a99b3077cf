"""A trainer killed at random moments: models whole, CURRENT valid, every event once in the end.

`CANET_CHAOS_KILLS=50` kills that often; the figures of such a run stand in docs/log.md.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import redis

from models.checkpoint.read import read_checkpoint
from models.checkpoint.store import current, list_versions
from models.events import EVENT_STREAMS, stream_key
from service.store.contract import Interaction
from tests.training.refresh.world import BASE_MS, acknowledged, store_at, walks, write_csv
from training.refresh.dataset import DataSet

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("CANET_CHAOS_KILLS") or 4)
GENEROUS_SECONDS = 1800


class Trainer:
    """`canet train --refresh` over one store, data set and model root."""

    def __init__(self, url: str, directory: Path) -> None:
        self.root = directory / "models"
        self.dataset = directory / "dataset"
        self.url = url
        self.data = write_csv(directory / "data.csv", walks([f"u{n}" for n in range(40)]))

    def start(self) -> subprocess.Popen[str]:
        words = f"train --refresh --data {self.data} --out {self.root} --dataset {self.dataset}"
        grid = "--preset session-like --depths 1,2 --widths 32,64"
        plan = f"{grid} --epochs 1 --threads 1 --batch 20 --keep 3"
        gate = "--gate-saved -1 1 --gate-tolerance 1 --json"
        return subprocess.Popen(
            [sys.executable, "-m", "cli.main", *words.split(), *plan.split(), *gate.split()],
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "CANET_REDIS_URL": self.url,
                "OMP_NUM_THREADS": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def killed_after(self, seconds: float) -> str | None:
        """Kill it then; return how far it had come by its last line, None when it had ended."""
        process = self.start()
        try:
            _, said = process.communicate(timeout=seconds)
            assert process.returncode == 0, said
            return None
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            _, said = process.communicate()
        # What a dead process's lease does when it runs out.
        with redis.Redis.from_url(self.url) as client:
            client.delete("canet:1:trainer:lock")
        lines = said.splitlines()
        return " ".join(lines[-1].split()[:2]) if lines else "starting"

    def finished(self) -> str:
        process = self.start()
        out, said = process.communicate(timeout=GENEROUS_SECONDS)
        assert process.returncode == 0, said
        version = json.loads(out).get("version") or current(self.root)
        assert isinstance(version, str)
        return version

    def everything_is_whole(self) -> None:
        for version in list_versions(self.root):
            read_checkpoint(self.root / version)
        now = current(self.root)
        assert now is None or now in list_versions(self.root)

    def rows(self) -> list[tuple[str, str]]:
        with DataSet(self.dataset) as dataset:
            tables = [pq.read_table(part.path) for part in dataset.parts()]
        return sorted(
            (row["user_id"], row["item_id"]) for table in tables for row in table.to_pylist()
        )


def fresh(number: int) -> list[Interaction]:
    """What users do between two kills."""
    return [
        Interaction(
            user_id=f"live{number % 17}",
            external_id=f"i{(7 * number + step) % 60}",
            timestamp_ms=BASE_MS + 1000 * (50 * number + step),
            event_id=f"{number}-{step}",
        )
        for step in range(30)
    ]


def pairs(rows: Sequence[Interaction]) -> list[tuple[str, str]]:
    return [(row.user_id, row.external_id) for row in rows]


async def forget(url: str, user: str) -> None:
    store = store_at(url)
    await store.delete(user)
    await store.close()


async def test_a_killed_trainer_leaves_nothing_broken_lost_or_twice(
    redis_url: str, tmp_path: Path
) -> None:
    trainer, chance = Trainer(redis_url, tmp_path), random.Random(5)
    began = time.monotonic()
    trainer.finished()
    usual = time.monotonic() - began
    expected: list[tuple[str, str]] = []
    where: Counter[str] = Counter()
    number = 0
    while where.total() < KILLS:
        sent = fresh(number)
        await acknowledged(redis_url, sent)
        expected += pairs(sent)
        if number % 5 == 4:
            gone = f"live{number % 17}"
            await forget(redis_url, gone)
            expected = [pair for pair in expected if pair[0] != gone]
        began = time.monotonic()
        reached = trainer.killed_after(chance.uniform(0, usual))
        if reached is None:
            usual = time.monotonic() - began  # the machine is faster than it was
        else:
            where[reached] += 1
        trainer.everything_is_whole()
        number += 1
    sys.stdout.write(f"{KILLS} kills of runs of {usual:.0f} s, after: {dict(where)}\n")
    version = trainer.finished()
    trainer.everything_is_whole()
    assert current(trainer.root) == version
    assert trainer.rows() == sorted(expected)
    with redis.Redis.from_url(redis_url) as client:
        for shard in range(EVENT_STREAMS):
            assert client.xlen(stream_key("canet:1", shard)) == 0
        assert not client.exists("canet:1:trainer:lock")

"""A small world for the trainer's tests: users who walk through items, and a live store."""

from __future__ import annotations

import asyncio
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from service.store.contract import Interaction
from service.store.redis_config import RedisConfig
from service.store.redis_history import RedisHistoryStore
from training.plan import TrainPlan

BASE_MS = 1_700_000_000_000
HOUR_MS = 3_600_000


def one_epoch(out: Path) -> TrainPlan:
    """A plan that trains in seconds, to be published into `out`."""
    return TrainPlan(
        out=out,
        preset="session-like",
        depths=(1, 2),
        widths=(32, 64),
        epochs=1,
        threads=1,
        resume=False,
    )


def walks(users: Sequence[str], *, items: int = 60, seed: int = 0) -> list[Interaction]:
    """10 to 25 steps of every user, mostly upwards, none twice."""
    rng = np.random.default_rng(seed)
    found = []
    for number, user in enumerate(users):
        start, count = int(rng.integers(items)), int(rng.integers(10, 26))
        moment = BASE_MS + 1000 * int(rng.integers(10_000_000))
        for place in range(count):
            item = (start + 2 * place + (number + place) % 2) % items
            found.append(
                Interaction(
                    user_id=user,
                    external_id=f"i{item}",
                    timestamp_ms=moment + HOUR_MS * place,
                    event_id=f"{user}-{place}",
                )
            )
    return found


def write_csv(path: Path, rows: Sequence[Interaction]) -> Path:
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["user_id", "item_id", "timestamp"])
        writer.writerows((row.user_id, row.external_id, row.timestamp_ms) for row in rows)
    return path


async def appended(store: RedisHistoryStore, rows: Sequence[Interaction]) -> None:
    for start in range(0, len(rows), 500):
        await store.append(rows[start : start + 500])


def store_at(url: str) -> RedisHistoryStore:
    # Generous: the machine may be busy, and nothing here is about speed.
    return RedisHistoryStore(
        RedisConfig(
            url=url,
            op_timeout_seconds=60,
            write_timeout_seconds=60,
            connect_timeout_seconds=60,
            pool_wait_seconds=60,
            history_max=1000,
        )
    )


async def acknowledged(url: str, rows: Sequence[Interaction]) -> None:
    """Acknowledge the events as the service does."""
    store = store_at(url)
    await appended(store, rows)
    await store.close()


def send(url: str, rows: Sequence[Interaction]) -> None:
    """As `acknowledged`, outside an event loop."""
    asyncio.run(acknowledged(url, rows))

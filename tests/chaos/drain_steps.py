"""Kills a draining process at every step it takes, one after the other; prints what was found.

Run as `python -m tests.chaos.drain_steps REDIS_URL DIRECTORY STRIDE`. A step is a call to the file
system or to Redis; the process dies right before it or right after it. Children are forked from
this process, which has no threads: it has not used Arrow yet, and JE_ARROW_MALLOC_CONF says
background_thread:false, since Arrow's allocator starts one as soon as it is imported.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import redis

from tests.chaos.steps import Countdown, forked
from tests.training.refresh.world import BASE_MS
from training.refresh.dataset import DataSet
from training.refresh.drain import drain
from training.refresh.upkeep import keep_up

USERS = ("anna", "bert", "carl", "dora", "guest")
STREAMS = {"anna": 0, "bert": 0, "carl": 1, "dora": 1, "guest": 1}
EXPECTED = sorted(
    [
        *(("anna", f"i{n}") for n in range(6)),
        *(("carl", f"i{n}") for n in range(6)),
        *(("anna", f"g{n}") for n in range(3)),
        ("bert", "late"),
        ("dora", "put"),
    ]
)


def fill(client: redis.Redis) -> None:
    """Two streams as the service writes them: events, a deletion, a merge, a replacement."""

    def add(user: str, op: str, /, **data: Any) -> None:
        entry = {"op": op, "data": json.dumps(data)}
        at = client.xadd(f"canet:1:ev:{{{STREAMS[user]}}}", entry)  # type: ignore[arg-type]
        if op != "event":
            place = at.decode() if isinstance(at, bytes) else at
            wish = f"{place} {'merge' if op == 'merge' else 'delete'} {json.dumps(data)}"
            client.rpush(f"canet:1:wish:{{{STREAMS[user]}}}", wish)

    def event(user: str, item: str) -> None:
        event_id = f"{user}{item}".encode().hex()
        add(user, "event", user=user, item=item, ms=BASE_MS, type="view", event=event_id)

    client.flushall()
    for number in range(6):
        for user in ("anna", "bert", "carl"):
            event(user, f"i{number}")
    for number in range(3):
        event("guest", f"g{number}")
    event("dora", "old")
    add("bert", "delete", user="bert")
    add("guest", "merge", user="anna", source="guest")
    add("dora", "replace", user="dora", entries=[["put", BASE_MS]])
    event("bert", "late")


def work(url: str, directory: Path) -> None:
    with redis.Redis.from_url(url) as client, DataSet(directory) as dataset:
        drain(client, dataset, batch_entries=4)
        keep_up(dataset)


def verify(url: str, directory: Path) -> None:
    with redis.Redis.from_url(url) as client, DataSet(directory) as dataset:
        tables = [pq.read_table(part.path) for part in dataset.parts()]
        found = sorted(
            (row["user_id"], row["item_id"]) for table in tables for row in table.to_pylist()
        )
        assert found == EXPECTED, found
        assert not dataset.unapplied()
        assert all(client.xlen(f"canet:1:ev:{{{shard}}}") == 0 for shard in (0, 1))
    assert not list(directory.rglob(".tmp-*"))
    for path in directory.rglob("*.parquet"):
        assert b"guest" not in path.read_bytes() or path.parent.name == "ops"


def main(url: str, directory: Path, stride: int) -> None:
    for last in itertools.count(1, stride):
        shutil.rmtree(directory, ignore_errors=True)
        assert forked(lambda: fill(redis.Redis.from_url(url))) == 0

        def killed(last: int = last) -> None:
            countdown = Countdown(last)
            for name in ("replace", "unlink", "mkdir"):
                countdown.around(Path, name)
            countdown.around(os, "fsync")
            countdown.around(redis.Redis, "execute_command")
            work(url, directory)

        code = forked(killed)
        assert code in (0, -signal.SIGKILL), f"step {last}: exit code {code}"
        assert forked(lambda: work(url, directory)) == 0, f"after step {last}"
        assert forked(lambda: verify(url, directory)) == 0, f"after step {last}"
        if code == 0:
            sys.stdout.write(json.dumps({"steps": last}))
            return


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))

"""Redis killed, paused, full, slow, failing over and restarted under load, and the service killed.

Nobody who asks for a recommendation gets an error, what lacks its history says so and is counted,
and no acknowledged event is lost or counted twice. Two kills of each kind by default;
`CANET_CHAOS_KILLS=20 pytest tests/chaos/test_redis.py -s` is the full run. Times are printed and
not asserted: a busy machine proves nothing about them.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from bench.processes import Server
from tests.chaos.ledger import Found
from tests.chaos.redis_load import Load, load
from tests.chaos.redis_server import RedisServer
from tests.chaos.relay import Relay
from tests.chaos.trial import Row, calm, hurt, show, together
from tests.models.published import publish_random
from tests.servers.processes import free_port, running

pytestmark = pytest.mark.servers

KILLS = int(os.environ.get("CANET_CHAOS_KILLS") or 2)
FULL = KILLS >= 20
FAULT_SECONDS = 5.0 if FULL else 0.5
CALM_SECONDS = 10.0 if FULL else 0.5
SERVICE_KILLS = 5 if FULL else 1
ROOT = Path(__file__).parents[2]
# With `everysec` Redis answers before it writes while an older write is being synced, and counts
# two seconds of that by a clock of whole seconds.
POSTPONED_SECONDS = 3.0


@contextmanager
def redis_at(
    directory: Path, *, fsync: str = "always", replica_of: int | None = None
) -> Iterator[RedisServer]:
    """Yield a running Redis."""
    server = RedisServer(directory, fsync=fsync, replica_of=replica_of)
    try:
        server.start()
        yield server
    finally:
        server.close()


@contextmanager
def serving(
    directory: Path, redis_url: str, port: int | None = None, **settings: str
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Yield `canet serve`, with its defaults over a small random model, once it is ready."""
    port = port or free_port()
    models = directory / "models"
    if not models.exists():
        publish_random(models)
    environ = {
        "CANET_REDIS_URL": redis_url,
        "CANET_HISTORY_MAX": "1000",  # nothing that is looked for is trimmed
        "CANET_DRAIN_SECONDS": "0",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        **{f"CANET_{name.upper()}": value for name, value in settings.items()},
    }
    command = [sys.executable, "-m", "cli.main", "serve", "--models", str(models)]
    url = f"http://127.0.0.1:{port}"
    log = directory / "service.log"
    with running([*command, "--port", str(port)], f"{url}/readyz", log, environ) as process:
        yield url, process
    assert "Traceback" not in log.read_text()


def port_of(url: str) -> int:
    return int(url.rsplit(":", 1)[1])


def degraded_count(url: str) -> int:
    """Return what the service has counted as degraded for want of Redis."""
    text = httpx.get(f"{url}/metrics", timeout=60).text
    found = re.search(r'^canet_degraded_total\{reason="redis_down"\} (\S+)$', text, re.MULTILINE)
    assert found is not None
    return int(float(found[1]))


def nobody_was_failed(running_load: Load, url: str) -> None:
    """Every recommendation was answered, every refusal was a proper one, and all was counted."""
    assert running_load.faults == []
    assert set(running_load.statuses()) <= {200, 429}
    assert degraded_count(url) == running_load.degraded()


def nothing_was_lost(found: Found) -> None:
    assert (found.missing, found.twice, found.strange) == (set(), set(), set())


@pytest.mark.parametrize("fsync", ("always", "everysec") if FULL else ("always",))
async def test_killed_redis_costs_no_answer_and_no_acknowledged_event(
    tmp_path: Path, fsync: str
) -> None:
    chance = random.Random(KILLS)
    rows: list[Row] = []
    kills: list[float] = []
    with redis_at(tmp_path / "redis", fsync=fsync) as server:

        def kill() -> None:
            server.kill()
            kills.append(time.monotonic())

        with serving(tmp_path, server.url) as (url, _):
            async with load(port_of(url)) as users:
                quiet = await calm(users, CALM_SECONDS)
                for _ in range(KILLS):
                    await asyncio.sleep(chance.uniform(0, FAULT_SECONDS))
                    down = chance.uniform(0, FAULT_SECONDS)
                    rows.append(await hurt(users, "kill", kill, server.start, seconds=down))
            nobody_was_failed(users, url)
        found = users.ledger.look_for_all(server.client)
        name = f"kill -9, {KILLS} times"
        show(f"Redis with appendfsync {fsync}", [quiet, together(name, rows)], str(found))
        if fsync == "everysec":
            found.missing -= {
                name
                for name, moment in users.ledger.acknowledged.items()
                if any(-POSTPONED_SECONDS < moment - kill < 1 for kill in kills)
            }
        nothing_was_lost(found)


async def test_paused_full_and_restarted_redis_costs_no_answer(tmp_path: Path) -> None:
    with redis_at(tmp_path / "redis") as server, serving(tmp_path, server.url) as (url, _):
        async with load(port_of(url)) as users:
            rows = [
                await calm(users, CALM_SECONDS),
                await hurt(users, "SIGSTOP", server.pause, server.resume, seconds=FAULT_SECONDS),
                await hurt(
                    users,
                    "full (OOM)",
                    lambda: server.set_memory("1mb"),
                    lambda: server.set_memory("0"),
                    seconds=FAULT_SECONDS,
                    degrades=False,
                ),
                await hurt(
                    users,
                    "restart",
                    server.stop,
                    server.start,
                    seconds=0.0,
                    degrades=False,
                    refuses=False,
                ),
            ]
        nobody_was_failed(users, url)
        found = users.ledger.look_for_all(server.client)
        show("Redis with appendfsync always", rows, str(found))
        nothing_was_lost(found)


async def test_slow_and_failing_over_redis_costs_no_answer_and_no_acknowledged_event(
    tmp_path: Path,
) -> None:
    """The address leads to the new primary, as with a service name or a managed Redis.

    Connections of before still lead to the old one. Acknowledged events outlive the loss of a
    primary by `CANET_REDIS_WAIT_REPLICAS`.
    """
    with ExitStack() as stack:
        first = stack.enter_context(redis_at(tmp_path / "first"))
        second = stack.enter_context(redis_at(tmp_path / "second", replica_of=first.port))
        first.wait_for_replica()
        async with Relay(first.port) as relay:
            address = f"redis://127.0.0.1:{relay.port}/0"
            url, _ = await asyncio.to_thread(
                stack.enter_context, serving(tmp_path, address, redis_wait_replicas="1")
            )

            def slow(seconds: float) -> None:
                relay.delay_seconds = seconds

            def lead_to_second() -> None:
                relay.target = second.port

            def promote_first() -> None:
                first.promote()
                relay.target = first.port
                # Until there is a replica again, nothing is acknowledged.
                third = stack.enter_context(redis_at(tmp_path / "third", replica_of=first.port))
                first.wait_for_replica()
                assert third.port != first.port

            async with load(port_of(url)) as users:
                rows = [
                    await calm(users, CALM_SECONDS),
                    await hurt(
                        users,
                        "slow, 200 ms",
                        lambda: slow(0.2),
                        lambda: slow(0.0),
                        seconds=FAULT_SECONDS,
                    ),
                    await hurt(
                        users,
                        "failover",
                        first.fail_over,
                        lead_to_second,
                        seconds=FAULT_SECONDS,
                        degrades=False,
                    ),
                    await hurt(
                        users, "primary lost", second.kill, promote_first, seconds=FAULT_SECONDS
                    ),
                ]
            await asyncio.to_thread(nobody_was_failed, users, url)
            found = users.ledger.look_for_all(first.client)
            show("Redis behind an address, one replica waited for", rows, str(found))
            nothing_was_lost(found)


async def test_killed_service_is_soon_back_with_everything_it_acknowledged(tmp_path: Path) -> None:
    port = free_port()
    ready: list[str] = []
    with redis_at(tmp_path / "redis") as server, ExitStack() as stack:

        def start() -> subprocess.Popen[bytes]:
            began = time.monotonic()
            _, process = stack.enter_context(serving(tmp_path, server.url, port))
            seconds = time.monotonic() - began
            seen = Server(name="canet", port=port, pid=process.pid, ready_seconds=seconds)
            ready.append(f"{seconds:.1f} s ({seen.cpu_seconds():.1f} s CPU)")
            return process

        process = await asyncio.to_thread(start)
        async with load(port) as users:
            for _ in range(SERVICE_KILLS):
                await calm(users, CALM_SECONDS)
                process.send_signal(signal.SIGKILL)
                await asyncio.to_thread(process.wait)
                process = await asyncio.to_thread(start)
            await calm(users, CALM_SECONDS)
        assert users.faults == []
        assert set(users.statuses()) <= {0, 200, 429, 503}, "dead (0), then not ready"
        found = users.ledger.look_for_all(server.client)
        told = ", ".join(ready)
        sys.stdout.write(f"\nSIGKILL of the service, start to ready: {told}\n{found}\n")
        nothing_was_lost(found)

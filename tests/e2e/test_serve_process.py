"""`canet serve` as people start it: a process, a socket, the embedded store, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.models.published import publish_random

PROJECT = Path(__file__).parents[2]
WAIT_SECONDS = 60.0
HISTORY = ("item-3", "item-1", "item-7")


@dataclass(frozen=True, slots=True)
class Served:
    process: subprocess.Popen[bytes]
    url: str


def until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while not done():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def url_in(log: Path) -> str | None:
    """Return the address the server says it listens on."""
    for line in log.read_text().splitlines():
        message = json.loads(line)["message"] if line.startswith("{") else ""
        if "running on http" in message:
            return next(word for word in message.split() if word.startswith("http://"))
    return None


@contextmanager
def serve(root: Path, redis: Path, log: Path) -> Iterator[Served]:
    """Yield the ready service on a free port."""
    environ = {name: value for name, value in os.environ.items() if "CANET_" not in name}
    environ |= {
        "CANET_EMBEDDED_DIR": str(redis),
        "CANET_DRAIN_SECONDS": "2",
        "CANET_DEADLINE_MS": "20000",
        "CANET_OBJECTIVE_MS": "60000",
        "CANET_REDIS_OP_TIMEOUT_MS": "5000",
        "CANET_REDIS_WRITE_TIMEOUT_MS": "5000",
    }
    command = [sys.executable, "-m", "cli.main", "serve", "--models", str(root), "--port", "0"]
    with log.open("w") as stream:
        process = subprocess.Popen(command, cwd=PROJECT, env=environ, stdout=stream, stderr=stream)
    try:
        until(lambda: url_in(log) is not None or process.poll() is not None)
        url = url_in(log)
        assert url is not None, log.read_text()
        until(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        yield Served(process, url)
    finally:
        process.kill()
        process.wait()


class Caller(threading.Thread):
    """Asks for as long as the service calls itself ready, as a load balancer would."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.statuses: list[int] = []
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            with httpx.Client(base_url=self.url, timeout=30) as client:
                while client.get("/readyz").status_code == 200:
                    response = client.post("/recommend", json={"user_id": "u"})
                    self.statuses.append(response.status_code)
        except httpx.HTTPError as error:
            self.failure = error


def test_it_ends_without_failing_a_request_and_remembers_over_a_restart(tmp_path: Path) -> None:
    root, redis = tmp_path / "models", tmp_path / "redis"
    version = publish_random(root)
    with serve(root, redis, tmp_path / "first.log") as served:
        events = [
            {"user_id": "u", "item_id": item, "timestamp": 1_700_000_000 + second}
            for second, item in enumerate(HISTORY)
        ]
        written = httpx.post(f"{served.url}/v1/events", json={"events": events})
        assert written.json()["accepted"] == len(HISTORY)
        before = httpx.post(f"{served.url}/recommend", json={"user_id": "u"}).json()
        assert (before["source"], before["model_version"]) == ("model", version)
        assert before["history_length"] == len(HISTORY)

        callers = [Caller(served.url) for _ in range(3)]
        for caller in callers:
            caller.start()
        until(lambda: all(caller.statuses for caller in callers))

        def body() -> Iterator[bytes]:
            """Be a request that began before the signal and ends after the drain."""
            yield b'{"user_id": "u", '
            served.process.send_signal(signal.SIGTERM)
            until(lambda: not any(caller.is_alive() for caller in callers))
            time.sleep(2)  # past the drain: only requests that are running hold the process
            assert served.process.poll() is None
            yield b'"k": 10}'

        headers = {"content-type": "application/json"}
        late = httpx.post(f"{served.url}/recommend", content=body(), headers=headers, timeout=60)
        assert (late.status_code, late.json()["items"]) == (200, before["items"])
        assert served.process.wait(WAIT_SECONDS) == 0
        for caller in callers:
            assert caller.failure is None
            assert set(caller.statuses) == {200}
    assert "Traceback" not in (tmp_path / "first.log").read_text()

    with serve(root, redis, tmp_path / "second.log") as served:
        remembered = httpx.get(f"{served.url}/v1/users/u/history").json()
        assert [row["item_id"] for row in remembered["items"]] == list(HISTORY)
        after = httpx.post(f"{served.url}/recommend", json={"user_id": "u"}).json()
        assert after["items"] == before["items"]
        served.process.send_signal(signal.SIGINT)  # nobody at a keyboard waits for a drain
        assert served.process.wait(WAIT_SECONDS) == 0

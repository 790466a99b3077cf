"""What is thrown at: `canet serve` as a process, over a real checkpoint and a real Redis."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from service.store.embedded import EmbeddedServer
from tests.models.published import publish_random

ROOT = Path(__file__).parents[2]
WAIT_SECONDS = 240.0
KEY = "fuzz-key-of-all-scopes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A running service, its Redis and its log."""

    url: str
    redis_url: str
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    @property
    def headers(self) -> dict[str, str]:
        return {"X-API-Key": KEY}

    def statuses(self) -> dict[int, int]:
        """How many requests were answered with which status, by the service's own count."""
        text = httpx.get(f"{self.url}/metrics", timeout=60).text
        found: dict[int, int] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == "canet_http_requests_total":
                    status = int(sample.labels["status"])
                    found[status] = found.get(status, 0) + int(sample.value)
        return {status: count for status, count in found.items() if count}

    def errors(self) -> list[dict[str, Any]]:
        """What it logged as an error; a traceback on the bare stream counts."""
        found: list[dict[str, Any]] = []
        for line in self.log.read_text(errors="replace").splitlines():
            try:
                told = json.loads(line)
            except ValueError:
                told = {"level": "error", "message": line}
            if told["level"] in {"error", "critical"} or "exception" in told:
                found.append(told)
        return found


@contextmanager
def target(directory: Path, **settings: str) -> Iterator[Target]:
    """Yield the ready service; two versions are published, CANET_<NAME> is set from `settings`.

    The Redis is Debian's where there is one on the PATH, else the one the service comes with.
    """
    binary = shutil.which("redis-server")
    for seed in (1, 2):
        publish_random(directory / "models", seed=seed)
    with EmbeddedServer(
        directory / "redis",
        binary=Path(binary) if binary else None,
        extra_arguments=("--appendonly", "no"),
    ) as redis:
        environ = {name: value for name, value in os.environ.items() if "CANET_" not in name}
        environ |= {
            "CANET_REDIS_URL": redis.url,
            "CANET_API_KEYS": f"read+write+admin:{KEY}",
            # Wide limits: what is asked is what is answered, not how fast a busy machine is.
            "CANET_DEADLINE_MS": "20000",
            "CANET_OVERLOAD_POLICY": "off",
            "CANET_REDIS_OP_TIMEOUT_MS": "5000",
            "CANET_REDIS_WRITE_TIMEOUT_MS": "5000",
            "CANET_REDIS_CONNECT_TIMEOUT_MS": "5000",
            **{f"CANET_{name.upper()}": value for name, value in settings.items()},
        }
        log = directory / "log"
        command = [sys.executable, "-m", "cli.main", "serve", "--port", "0"]
        command += ["--models", str(directory / "models")]
        with log.open("wb") as stream:
            process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=stream, stderr=stream)
        try:
            url = _until_ready(process, log)
            yield Target(url=url, redis_url=redis.url, log=log, process=process)
        finally:
            process.kill()
            process.wait()


def _until_ready(process: subprocess.Popen[bytes], log: Path) -> str:
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        text = log.read_text()
        assert process.poll() is None, text
        _, found, rest = text.partition("running on http://")
        if found:
            url = "http://" + rest.split(" ")[0]
            if httpx.get(f"{url}/readyz", timeout=60).status_code == 200:
                return url
        time.sleep(0.05)
    raise AssertionError(log.read_text())

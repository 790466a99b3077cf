"""The real service process over a fake engine: uvicorn, the embedded store, a socket."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
WAIT_SECONDS = 240.0
ADMIN = "admin-key-0123456789"
_PROGRAM = """
import service.app, service.serve
from tests.service.fakes import FakeEngine, FakeManager, SlowEngine
service.app.model_manager = lambda settings, metrics: (FakeManager({engine}), None)
raise SystemExit(service.serve.main())
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A running service; `admin_url` is None where it has no port of its own."""

    process: subprocess.Popen[bytes]
    url: str
    admin_url: str | None
    log: Path

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def lines(self) -> list[dict[str, Any]]:
        """Return what it has logged so far; a half line at the end is left out."""
        return [json.loads(line) for line in self.log.read_text().split("\n")[:-1]]


def until(done: Callable[[], bool], seconds: float = WAIT_SECONDS) -> None:
    """Return once `done` says so."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


@contextmanager
def serving(directory: Path, *, engine: str = "FakeEngine()", **settings: str) -> Iterator[Served]:
    """Yield the service listening on free ports, with `CANET_<NAME>` set from `settings`.

    Its store lives in `directory`, also over several starts. It is killed afterwards.
    """
    environ = {name: value for name, value in os.environ.items() if "CANET_" not in name}
    environ |= {
        "CANET_PORT": "0",
        "CANET_EMBEDDED_DIR": str(directory / "redis"),
        "CANET_DEADLINE_MS": "20000",
        "CANET_OBJECTIVE_MS": "60000",
        "CANET_REDIS_OP_TIMEOUT_MS": "5000",
        "CANET_REDIS_WRITE_TIMEOUT_MS": "5000",
        "PYTHONPATH": str(ROOT),
        **{f"CANET_{name.upper()}": value for name, value in settings.items()},
    }
    log = directory / f"log-{time.monotonic_ns()}"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM.format(engine=engine)],
            env=environ,
            stdout=stream,
            stderr=stream,
        )
    try:
        wanted = ["running on http"]
        if "admin_port" in settings:
            wanted.append("admin routes and metrics on http")
        text = ""
        end = time.monotonic() + WAIT_SECONDS
        while not all(words in text for words in wanted):
            assert process.poll() is None, text
            assert time.monotonic() < end, text
            time.sleep(0.02)
            text = log.read_text()
        urls = [_url_in(text, words) for words in wanted]
        yield Served(
            process=process,
            url=urls[0],
            admin_url=urls[1] if len(urls) > 1 else None,
            log=log,
        )
    finally:
        process.kill()
        process.wait()


def _url_in(text: str, words: str) -> str:
    line = next(line for line in text.splitlines() if words in line)
    message: str = json.loads(line)["message"]
    return next(word for word in message.split() if word.startswith("http://"))

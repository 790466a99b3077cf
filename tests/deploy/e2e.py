"""The whole stack on a Docker engine of its own: built, started, hurt, mended, scaled, removed.

    python3 -m tests.deploy.e2e [--seconds N] [--when FILE] [--socket PATH] [--keep]

Starts an engine beside any other (own data, own socket), makes stand-ins for the official images
from Debian's packages, since none can be pulled everywhere, builds the project's own Dockerfile on
them unchanged, and drives docker-compose.yml unchanged. What the stand-ins cannot show is said.

Exit code: 0 it held; 1 it did not; 77 no engine, base or package could be had here within
`--seconds`, so that nothing was verified. `--when` waits, with everything prepared, until FILE is
there (an empty one takes everything down again: 77); `--socket` uses an engine that runs and has
the images. Needs `docker-compose` on PATH. Standard library only.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.deploy.engine import ROOT, Engine, Unverified, prepare, say

UNVERIFIED = 77
WAIT_SECONDS = 240.0
# Grafana's server is in no package list: its container is the one that is not started.
SERVICES = ("api", "balancer", "redis", "prometheus", "trainer")


class Stack:
    """docker-compose.yml as it stands, on free ports."""

    def __init__(self, engine: Engine) -> None:
        self.api, self.prometheus = (f"http://127.0.0.1:{port}" for port in free_ports(2))
        self._environ = {
            **engine.environ,
            "API_PORT": self.api.rsplit(":", 1)[1],
            "PROMETHEUS_PORT": self.prometheus.rsplit(":", 1)[1],
            "CANET_DEADLINE_MS": "5000",  # a busy machine is not what is tested here
            "CANET_REDIS_OP_TIMEOUT_MS": "1000",
            "CANET_REDIS_WRITE_TIMEOUT_MS": "5000",
        }

    def compose(self, *arguments: str) -> str:
        """Run Compose; returns what it printed. Raises AssertionError when it fails."""
        command = ["docker-compose", "--env-file", os.devnull, "-p", "canet-e2e", *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=self._environ, capture_output=True, text=True, timeout=900
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr[-2000:]}"
        return done.stdout

    def up(self, *more: str) -> None:
        self.compose(
            *("up", "--detach", "--wait", "--no-build", "--pull", "never"), *more, *SERVICES
        )

    def ask(self, user: str) -> tuple[dict[str, Any], str]:
        """Return the answer for `user` and the version of the model that gave it."""
        answer, headers = call(f"{self.api}/recommend", {"user_id": user})
        return answer, headers["X-Model-Version"]

    def query(self, expression: str) -> float:
        """Return the one value of an instant query; 0 when there is none."""
        where = f"{self.prometheus}/api/v1/query?query={urllib.request.quote(expression)}"  # type: ignore[attr-defined]
        found = call(where)[0]["data"]["result"]
        return float(found[0]["value"][1]) if found else 0.0


def call(url: str, body: object = None) -> tuple[Any, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as response:
        return json.load(response), response.headers


def free_ports(count: int) -> list[int]:
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in taken]
    for one in taken:
        one.close()
    return ports


def until(what: str, done: Callable[[], bool], seconds: float = WAIT_SECONDS) -> None:
    """Return once `done` says so; an answer that cannot be had is not yet."""
    began = time.monotonic()
    while True:
        try:
            if done():
                break
        except (OSError, KeyError):
            pass
        assert time.monotonic() - began < seconds, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.5)
    say(f"{what}: {time.monotonic() - began:.0f} s")


def drive(stack: Stack) -> None:
    """Everything that an operator does in the first week."""
    began = time.monotonic()
    stack.up()
    items = [item["item_id"] for item in stack.ask("nobody")[0]["items"]]
    seen = [{"user_id": "alice", "item_id": item, "type": "view"} for item in items[:3]]
    call(f"{stack.api}/v1/events", {"events": seen})
    answer, first = stack.ask("alice")
    assert answer["source"] == "model", answer
    assert answer["history_length"] == 3, answer
    say(f"first personalised answer {time.monotonic() - began:.0f} s after `up`, by {first}")
    for job in ("canet", "canet-trainer", "balancer"):
        until(f"Prometheus scrapes {job}", lambda job=job: stack.query(f'up{{job="{job}"}}') == 1)  # type: ignore[misc]
    saved = 'sum(canet_recommendations_total{source="model"})'
    until("the answer is counted", lambda: stack.query(saved) >= 1)
    assert stack.query('canet_trainer_runs_total{result="unchanged"}') >= 1, "trainer's first run"

    stack.compose("kill", "-s", "SIGKILL", "redis")
    until("without Redis it answers, degraded", lambda: "redis_down" in degraded(stack, "bob"))
    stack.compose("start", "redis")
    until("histories are back", lambda: stack.ask("alice")[0]["history_length"] == 3)

    say("a refresh in the trainer's container: " + refreshed(stack))
    until("the new model serves", lambda: stack.ask("alice")[1] != first)
    stack.compose("run", "--rm", "--no-deps", "trainer", "checkpoints", "rollback", "/models")
    until("rolled back", lambda: stack.ask("alice")[1] == first)

    stack.compose("--profile", "scale", "config", "--quiet")
    stack.up("--no-recreate", "--scale", "api=2")
    until("Prometheus finds both replicas", lambda: stack.query('sum(up{job="canet"})') == 2)
    until("both replicas answer", lambda: spread(stack) == 2)


def degraded(stack: Stack, user: str) -> list[str]:
    found: list[str] = stack.ask(user)[0]["degraded"]
    return found


def refreshed(stack: Stack) -> str:
    """Train a second model on other synthetic data through the gate; returns its last line."""
    script = (
        "canet demo-data --synthetic --cache /tmp/d --json > /tmp/p.json && "
        "path() { python -c \"import json; print(json.load(open('/tmp/p.json'))['$1'])\"; } && "
        'canet train --refresh --always --data "$(path interactions)" --items "$(path items)" '
        "--out /models --dataset /dataset --max-minutes 0.2 --lock-wait 60 "
        "--gate-tolerance 1 --gate-saved 0 1"
    )
    shell = ("run", "--rm", "--no-deps", "--entrypoint", "sh", "trainer", "-c", script)
    return stack.compose(*shell).strip().splitlines()[-1]


def spread(stack: Stack) -> float:
    for _ in range(20):
        stack.ask("alice")
    return stack.query('count(canet_http_requests_total{route="/recommend",status="200"} > 0)')


def main() -> int:
    """Prepare, drive, take down; returns the exit code."""
    parser = argparse.ArgumentParser(description="The stack end to end on a Docker engine.")
    parser.add_argument("--seconds", type=float, default=240, help="most time to prepare")
    parser.add_argument("--socket", type=Path, help="an engine that runs and has the images")
    parser.add_argument("--when", type=Path, metavar="FILE", help="prepare, then wait for it")
    parser.add_argument("--keep", action="store_true", help="leave the stack running")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is taken down
    place = Path(tempfile.mkdtemp(prefix="canet-e2e-"))
    engine: Engine | None = None
    try:
        if arguments.socket is not None:
            engine = Engine(place)
            engine.socket = arguments.socket
        else:
            engine = prepare(place, arguments.seconds)
        if arguments.when is not None:
            until("told to go on", arguments.when.exists, seconds=3600)
            if not arguments.when.read_text().strip():
                raise Unverified("there was no time left for it")
        stack = Stack(engine)
        try:
            drive(stack)
        except (AssertionError, OSError) as error:
            say(f"FAILED: {error}")
            say(stack.compose("logs", "--no-color", "--tail", "15"))
            return 1
        finally:
            if not arguments.keep:
                stack.compose("down", "--volumes", "--timeout", "10")
    except Unverified as error:
        say("NOT VERIFIED: the stack was neither built nor started here")
        say(f"because {error}")
        return UNVERIFIED
    finally:
        if engine is not None and arguments.socket is None and not arguments.keep:
            engine.stop()
        shutil.rmtree(place, ignore_errors=True)
    say("it held. NOT VERIFIED: the official images (Debian 12 stood in: Python 3.11, Redis 7,")
    say("Prometheus 2.42, HAProxy 2.6) and Grafana, which no package list here has")
    return 0


if __name__ == "__main__":
    sys.exit(main())

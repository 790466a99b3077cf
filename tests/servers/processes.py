"""Start a server as a child, wait until it answers, stop it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest


def required(binary: str, package: str) -> str:
    """The path of a server; without it the test fails under CANET_REQUIRE_SERVERS=1, else skips."""
    path = shutil.which(binary)
    if path is not None:
        return path
    message = f"{binary} is not on PATH: apt-get install {package}"
    if os.environ.get("CANET_REQUIRE_SERVERS") == "1":
        pytest.fail(message)
    pytest.skip(message)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return
        time.sleep(0.1)
    pytest.fail(f"{what} after {seconds:g} seconds")


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


@contextmanager
def running(
    command: Sequence[str], ready_url: str, log: Path, environ: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """The process once `ready_url` answers 200; stopped by SIGTERM afterwards.

    It sees the variables CANET_* of `environ` alone, not those that steer the tests.
    """
    inherited = {name: value for name, value in os.environ.items() if "CANET_" not in name}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env={**inherited, **(environ or {})},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until(
            lambda: process.poll() is not None or answers(ready_url),
            60,
            f"{ready_url} does not answer",
        )
        if process.poll() is not None:
            pytest.fail(f"{command[0]} ended: {log.read_text(errors='replace')[-2000:]}")
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

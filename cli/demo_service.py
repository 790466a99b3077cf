"""Run `canet serve` as a child for the demo, and stop it whatever happens."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from cli.errors import CommandError
from cli.progress import ConsoleProgress

_START_SECONDS = 60.0
_STOP_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningService:
    """A service that answered `/readyz`."""

    url: str
    process: subprocess.Popen[bytes]

    def wait(self) -> None:
        """Return when the service ends or Ctrl-C is pressed."""
        try:
            self.process.wait()
        except KeyboardInterrupt:
            return


@contextmanager
def running_service(
    root: Path, redis_dir: Path, port: int, progress: ConsoleProgress
) -> Iterator[RunningService]:
    """Start the service on `port` of this machine and drain it afterwards.

    CommandError when the port is taken or the service does not become ready.
    """
    _check_free(port)
    environ = {
        **os.environ,
        "CANET_MODEL_ROOT": str(root),
        "CANET_HOST": "127.0.0.1",
        "CANET_PORT": str(port),
        "CANET_EMBEDDED_DIR": str(redis_dir),
        "CANET_DRAIN_SECONDS": "0",
        "CANET_RESULT_TTL": "0",  # every answer shown is computed
        # A laptop that trains beside it is no overload: answers stay routed.
        "CANET_OBJECTIVE_MS": os.environ.get("CANET_OBJECTIVE_MS") or "1000",
        "CANET_LOG_LEVEL": os.environ.get("CANET_LOG_LEVEL") or "WARNING",
    }
    redis_dir.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "serve"],
        env=environ,
        start_new_session=True,  # Ctrl-C reaches the demo, which then drains the service
    )
    url = f"http://127.0.0.1:{port}"
    try:
        progress.log(f"starting the service on {url} ...")
        _wait_ready(url, process)
        yield RunningService(url=url, process=process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise CommandError(
                f"port {port} cannot be used ({error.strerror}); choose another with --port"
            ) from error


def _wait_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            raise CommandError(f"the service ended at start-up with code {process.returncode}")
        try:
            if httpx.get(f"{url}/readyz", timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise CommandError(f"the service was not ready after {_START_SECONDS:g} seconds")

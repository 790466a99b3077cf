"""Server processes: started on their core, watched through /proc, ended whatever happens."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.machine import pinned

ROOT = Path(__file__).parent.parent
START_SECONDS = 300.0
_STOP_SECONDS = 20.0
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that answered 200 on its readiness path."""

    name: str
    port: int
    pid: int
    ready_seconds: float

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def cpu_seconds(self) -> float:
        """Return user and system CPU seconds of the process and its living descendants."""
        ticks = 0
        for pid in [self.pid, *descendants(self.pid)]:
            fields = _stat(pid)
            if fields is not None:
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def resident_mib(self) -> float:
        """Return the resident set of the process and its descendants, MiB."""
        return self._status("VmRSS")

    def peak_mib(self) -> float:
        """Return the largest resident set so far, MiB; of several processes, the sum of peaks."""
        return self._status("VmHWM")

    def _status(self, key: str) -> float:
        total = 0
        for pid in [self.pid, *descendants(self.pid)]:
            try:
                lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
            except OSError:
                continue
            total += sum(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))
        return total * 1024 / _MIB


def python(*arguments: str) -> list[str]:
    """Return the command that runs this interpreter with `arguments`."""
    return [sys.executable, *arguments]


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(
    name: str,
    command: Sequence[str],
    *,
    port: int,
    log: Path,
    environ: Mapping[str, str],
    cores: frozenset[int],
    ready: str = "/readyz",
) -> Iterator[Server]:
    """Yield the server once `ready` answers 200; stop it, descendants included, afterwards.

    Its settings are those of `environ` alone; CANET_ variables of this process are left out.
    RuntimeError, with the end of its log, when it ends or takes more than START_SECONDS.
    """
    began = time.perf_counter()
    with log.open("ab") as out, pinned(cores):
        process = subprocess.Popen(
            list(command),
            env={**_inherited(), **environ},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_ready(name, process, port, ready, log)
        yield Server(
            name=name,
            port=port,
            pid=process.pid,
            ready_seconds=time.perf_counter() - began,
        )
    finally:
        _stop(process)


@contextmanager
def paused(servers: Iterable[Server]) -> Iterator[None]:
    """Stop the processes of `servers` meanwhile: some take CPU time also when nobody asks."""
    pids = [pid for server in servers for pid in (server.pid, *descendants(server.pid))]
    try:
        signal_all(pids, signal.SIGSTOP)
        yield
    finally:
        signal_all(pids, signal.SIGCONT)


def signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    """Send it to those that still live."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _inherited() -> dict[str, str]:
    """Return this process's environment without settings: what is measured is told its own."""
    return {name: value for name, value in os.environ.items() if not name.startswith("CANET_")}


def _wait_ready(
    name: str, process: subprocess.Popen[bytes], port: int, path: str, log: Path
) -> None:
    until = time.monotonic() + START_SECONDS
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=2) as client:
        while time.monotonic() < until:
            if process.poll() is not None:
                raise RuntimeError(
                    f"{name} ended at start with code {process.returncode}: {_tail(log)}"
                )
            try:
                if client.get(path).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.01)
    raise RuntimeError(f"{name} was not ready after {START_SECONDS:g} seconds: {_tail(log)}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the process and whatever it left in its session."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return " | ".join(lines[-5:]) or "its log is empty"


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/<pid>/stat after the name, None when the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def descendants(pid: int) -> list[int]:
    """Return the processes that `pid` started and those that they started, as far as they live."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        fields = _stat(int(path.name))
        if fields is not None:
            parents.setdefault(int(fields[1]), []).append(int(path.name))
    found: list[int] = []
    stack = [pid]
    while stack:
        children = parents.get(stack.pop(), [])
        found += children
        stack += children
    return found

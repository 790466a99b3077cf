"""The machine measured on, and which of its cores do what."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_BUSY_LOAD = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """Server on its own core; load generator, Redis and this process on the others.

    Both are empty where processes cannot be pinned or there is one core only.
    """

    server: frozenset[int] = frozenset()
    others: frozenset[int] = frozenset()

    @property
    def description(self) -> str:
        """Say what is pinned where."""
        if not self.server:
            return "nothing pinned: load generator and server share the cores"
        names = ",".join(map(str, sorted(self.others)))
        return f"server pinned to core {min(self.server)}; load generator and Redis to {names}"


def split_cores() -> Cores:
    """Return the division of the cores this process may use: the last one for the server."""
    if not hasattr(os, "sched_setaffinity"):
        return Cores()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return Cores()
    return Cores(server=frozenset(cores[-1:]), others=frozenset(cores[:-1]))


@contextmanager
def pinned(cores: frozenset[int]) -> Iterator[None]:
    """Children started meanwhile run on `cores` only; no cores: nothing changes."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def machine() -> str:
    """Return processor, number of usable cores and Python, in one line."""
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {usable} cores, Python {platform.python_version()}, {platform.system()}"


def busy() -> str | None:
    """Return a warning when other work runs here, judged by the load of the last minute."""
    if not hasattr(os, "getloadavg"):
        return None
    load = os.getloadavg()[0]
    if load <= _BUSY_LOAD:
        return None
    return f"the machine was busy before the measurement (load average {load:.1f}): trust ratios"

"""What a server process holds at one moment: memory, file descriptors, threads, connections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import redis

from bench.processes import Server


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Of the process and, for memory, its descendants; `redis_connections` are the store's own."""

    resident_mib: float
    file_descriptors: int
    threads: int
    redis_connections: int

    @classmethod
    def of(cls, server: Server, store: redis.Redis) -> Usage:
        """Read /proc and ask the store; OSError where there is no /proc or the server is gone."""
        process = Path(f"/proc/{server.pid}")
        status = (process / "status").read_text(encoding="utf-8")
        threads = next(line for line in status.splitlines() if line.startswith("Threads:"))
        return cls(
            resident_mib=server.resident_mib(),
            file_descriptors=sum(1 for _ in (process / "fd").iterdir()),
            threads=int(threads.split()[1]),
            redis_connections=int(store.info("clients")["connected_clients"]),
        )

    def to_json(self) -> Mapping[str, float]:
        """Return the figures by name."""
        return asdict(self)

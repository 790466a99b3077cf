"""A real Redis with an append-only file, to be hurt."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from tests.servers.processes import free_port, required, wait_until

START_SECONDS = 60.0


class RedisServer:
    """One `redis-server` on a port of its own that it keeps over restarts."""

    def __init__(
        self, directory: Path, *, fsync: str, port: int | None = None, replica_of: int | None = None
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        options: dict[str, str] = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(directory),
            "save": "",
            "appendonly": "yes",
            "appendfsync": fsync,
            "maxmemory-policy": "noeviction",
            # A replica gets the primary's data over the socket, at once.
            "repl-diskless-sync-delay": "0",
        }
        if replica_of is not None:
            options["replicaof"] = f"127.0.0.1 {replica_of}"
        self._command = [required("redis-server", "redis-server")]
        for name, value in options.items():
            self._command += [f"--{name}", *(value.split() or [""])]
        self._log = directory / "redis.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.client = redis.Redis(
            port=self.port, socket_timeout=10, retry=Retry(NoBackoff(), 0), protocol=2
        )

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """It answers when this returns, its data loaded."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, start_new_session=True
            )
        end = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, self._log.read_text()[-2000:]
            assert time.monotonic() < end, self._log.read_text()[-2000:]
            time.sleep(0.005)

    def kill(self) -> None:
        """End it without a chance to write anything."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it as an operator does."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        self._send(signal.SIGCONT)

    def close(self) -> None:
        """End it, whatever state it is in."""
        if self._process is not None and self._process.poll() is None:
            self._end(signal.SIGKILL)
        self.client.close()

    def set_memory(self, limit: str) -> None:
        self.client.config_set("maxmemory", limit)

    def wait_for_replica(self) -> None:
        """A replica holds what is here now."""
        wait_until(
            lambda: self.client.info("replication").get("slave0", {}).get("state") == "online",
            START_SECONDS,
            "no replica is there",
        )
        wait_until(lambda: self.client.wait(1, 1000) == 1, START_SECONDS, "no replica is in step")

    def promote(self) -> None:
        """Make a replica a primary, as after the loss of its own."""
        self.client.replicaof("NO", "ONE")

    def fail_over(self) -> None:
        """Hand over to the replica and become its replica, in step."""
        self.client.execute_command("FAILOVER")  # type: ignore[no-untyped-call]
        wait_until(
            lambda: self.client.info("replication")["role"] == "slave", START_SECONDS, "a primary"
        )

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except (RedisError, OSError):
            return False

    def _send(self, what: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(what)

    def _end(self, how: signal.Signals) -> None:
        self._send(how)
        assert self._process is not None
        self._process.wait(START_SECONDS)
        self.client.connection_pool.disconnect()

"""The closed and the open loop over real connections."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from contextlib import suppress
from typing import Any

from bench.client.connection import Connection, prepare
from bench.client.job import Job
from bench.client.record import Record
from bench.client.schedule import due_times

_CONNECT_SECONDS = 10.0


async def run_job(job: Job) -> dict[str, Any]:
    """Return the fields of `Outcome`; OSError when no connection can be made."""
    loop = _Open(job) if job.rate is not None else _Closed(job)
    await loop.connect()
    began, cpu = time.perf_counter(), time.process_time()
    try:
        await loop.run(began)
    finally:
        ended, used = time.perf_counter(), time.process_time() - cpu
        loop.close()
    return {
        **loop.record.to_json(),
        "gave_up": loop.gave_up,
        "seconds": ended - began,
        "client_cpu_share": used / (ended - began),
    }


class _Loop(ABC):
    """Connections, requests in turn, and the wait for the last answer."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.record = Record()
        self.gave_up = False
        self._requests = [prepare(job.host, job.port, job.path, body) for body in job.bodies]
        self._next = job.first
        self._connections: list[Connection] = []
        self._due: dict[Connection, float] = {}
        self._idle = asyncio.Event()
        self._closing = False

    async def connect(self) -> None:
        """Open every connection."""
        for _ in range(self.job.connections):
            self._connections.append(await self._open())

    async def _open(self) -> Connection:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(_CONNECT_SECONDS):
            _, connection = await loop.create_connection(
                lambda: Connection(self._on_answer), self.job.host, self.job.port
            )
        return connection

    def close(self) -> None:
        """Close every connection."""
        self._closing = True
        for connection in self._connections:
            connection.close()

    @abstractmethod
    async def run(self, began: float) -> None:
        """Send until the time is over and every answer has come."""

    def _send(self, connection: Connection, due: float) -> None:
        self._due[connection] = due
        self._idle.clear()
        connection.send(self._requests[self._next % len(self._requests)])
        self._next += 1

    def _on_answer(self, connection: Connection, status: int, body: bytes) -> None:
        due = self._due.pop(connection, None)
        if due is None or self._closing:
            return
        self.record.answered(status, body, time.perf_counter() - due)
        self._free(connection)
        if not self._due:
            self._idle.set()

    @abstractmethod
    def _free(self, connection: Connection) -> None:
        """The connection has nothing on the way."""

    async def _drain(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self.job.drain_seconds):
                while self._due:
                    await self._idle.wait()
        self.record.unanswered(len(self._due))
        self._due.clear()


class _Closed(_Loop):
    """Every connection sends its next request as soon as the last one was answered."""

    _end = 0.0

    async def run(self, began: float) -> None:
        """Send for `seconds`, then wait for what is on the way."""
        self._end = began + self.job.seconds
        for connection in self._connections:
            self._send(connection, time.perf_counter())
        await asyncio.sleep(self.job.seconds)
        await self._drain()

    def _free(self, connection: Connection) -> None:
        now = time.perf_counter()
        if now < self._end and connection.is_open:
            self._send(connection, now)


class _Open(_Loop):
    """Requests are due by the clock; what finds no free connection waits, and its wait counts.

    A connection that the server closed, an idle one after its keep-alive time, is replaced.
    """

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self._waiting: deque[float] = deque()
        self._ready: list[Connection] = []
        self._opening: set[asyncio.Task[None]] = set()

    async def connect(self) -> None:
        """Open every connection; all are free."""
        await super().connect()
        self._ready = list(self._connections)

    async def run(self, began: float) -> None:
        """Send what is due, when it is due, then wait for the last answer."""
        job = self.job
        assert job.rate is not None
        times = deque(due_times(job.rate, job.seconds, job.arrivals, job.seed))
        while times:
            now = time.perf_counter()
            while times and began + times[0] <= now:
                due = began + times.popleft()
                connection = self._take()
                if connection is None:
                    self._waiting.append(due)
                else:
                    self.record.sent(now - due)
                    self._send(connection, due)
            if self._waiting and now - self._waiting[0] > job.give_up_seconds:
                self.gave_up = True
                break
            if times:
                await asyncio.sleep(max(0.0, began + times[0] - time.perf_counter()))
        if not self.gave_up:
            await asyncio.gather(*self._opening)
            await self._drain()
        # What still waits was due and never sent; after giving up, so is what is on the way.
        self.record.unanswered(len(self._waiting) + len(self._due))
        self._due.clear()

    def close(self) -> None:
        """Close every connection, and open no more."""
        super().close()
        for task in self._opening:
            task.cancel()

    def _take(self) -> Connection | None:
        """Return a free connection, None where there is none."""
        while self._ready:
            connection = self._ready.pop()
            if connection.is_open:
                return connection
            self._replace(connection)
        return None

    def _free(self, connection: Connection) -> None:
        if not connection.is_open:
            self._replace(connection)
        elif self._waiting:
            self._send(connection, self._waiting.popleft())
        else:
            self._ready.append(connection)

    def _replace(self, connection: Connection) -> None:
        self._connections.remove(connection)
        task = asyncio.create_task(self._reopen())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _reopen(self) -> None:
        with suppress(OSError):  # what waits for it stays unanswered, and is counted so
            connection = await self._open()
            self._connections.append(connection)
            self._free(connection)

"""Users who ask and tell all the time, whatever happens to the store, and what they saw."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bench.client.asker import Asker, Reply
from tests.chaos.ledger import Ledger

USERS = 64
WAIT_SECONDS = 120.0
_ASKERS, _ASKS_PER_SECOND = 10, 10.0
_TELLERS, _TELLS_PER_SECOND, _EVENTS = 6, 10.0, 2


@dataclass(frozen=True, slots=True)
class Seen:
    """One answer: when the question was asked and answered (monotonic seconds).

    Status 0 is no answer at all; `flags` is what the answer calls itself degraded for.
    """

    began: float
    ended: float
    status: int
    flags: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether it lacks nothing that the store gives."""
        return self.status == 200 and "redis_down" not in self.flags


class Load:
    """Runs until `rest`; `faults` are answers that may not be."""

    def __init__(self, port: int) -> None:
        self.ledger = Ledger(USERS)
        self.asked: list[Seen] = []
        self.told: list[Seen] = []
        self.faults: list[str] = []
        self._resting = asyncio.Event()
        self._port = port

    async def ask_and_tell(self) -> None:
        """Send until told to rest; everything sent is acknowledged in the end."""
        async with asyncio.TaskGroup() as group:
            for place in range(_ASKERS):
                group.create_task(self._ask(place))
            for _ in range(_TELLERS):
                group.create_task(self._tell())

    def rest(self) -> None:
        """Send nothing new."""
        self._resting.set()

    async def _ask(self, place: int) -> None:
        asker = Asker(self._port)
        number = place
        await asyncio.sleep(place / (_ASKERS * _ASKS_PER_SECOND))
        while not self._resting.is_set():
            began = time.monotonic()
            number += _ASKERS
            body = {"user_id": f"u{number % USERS}", "k": 5}
            reply = await _post(asker, "/recommend", body)
            ended = time.monotonic()
            status = 0 if reply is None else reply.status
            flags: tuple[str, ...] = ()
            if reply is not None and status == 200:
                answer = json.loads(reply.body)
                flags = tuple(answer["degraded"])
                if "redis_down" in flags and answer["source"] != "popular":
                    self.faults.append(f"a model's answer without a history: {answer}")
            self.asked.append(Seen(began, ended, status, flags))
            await asyncio.sleep(max(0.0, began + 1 / _ASKS_PER_SECOND - ended))
        asker.close()

    async def _tell(self) -> None:
        asker = Asker(self._port)
        while not self._resting.is_set():
            began = time.monotonic()
            await self._deliver(asker)
            await asyncio.sleep(max(0.0, began + 1 / _TELLS_PER_SECOND - time.monotonic()))
        asker.close()

    async def _deliver(self, asker: Asker) -> None:
        """Tell the same until it is acknowledged, as a client should."""
        events = [self.ledger.event() for _ in range(_EVENTS)]
        while True:
            began = time.monotonic()
            reply = await _post(asker, "/v1/events", {"events": events})
            ended = time.monotonic()
            self.told.append(Seen(began, ended, 0 if reply is None else reply.status))
            if reply is None:
                await asyncio.sleep(0.1)
            elif reply.status == 200:
                told = json.loads(reply.body)
                if told["accepted"] + told["duplicates"] != len(events) or told["rejected"]:
                    self.faults.append(f"events: {told}")
                self.ledger.acknowledge(events, ended)
                return
            else:
                await asyncio.sleep(self._check_refusal(reply))

    def _check_refusal(self, reply: Reply) -> float:
        """Return the seconds in Retry-After."""
        kind, wait = reply.header("content-type"), int(reply.header("retry-after") or 0)
        problem = json.loads(reply.body)
        found = (reply.status, kind, problem.get("code"))
        if found != (503, "application/problem+json", "store_unavailable") or wait < 1:
            self.faults.append(f"events: {found}, Retry-After {wait}: {problem}")
        return wait

    def statuses(self) -> Counter[int]:
        """Return how recommendations were answered."""
        return Counter(seen.status for seen in self.asked)

    def degraded(self) -> int:
        """Return how many answers said that the store was away."""
        return sum("redis_down" in seen.flags for seen in self.asked)


async def _post(asker: Asker, path: str, body: object) -> Reply | None:
    """Return the answer; None when the connection broke or could not be made."""
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            return await asker.ask("POST", path, json.dumps(body))
    except (OSError, TimeoutError):
        asker.close()
        return None


@asynccontextmanager
async def load(port: int) -> AsyncIterator[Load]:
    """Yield the running load; afterwards everything sent was acknowledged."""
    running = Load(port)
    task = asyncio.create_task(running.ask_and_tell())
    try:
        yield running
        running.rest()
        async with asyncio.timeout(WAIT_SECONDS):
            await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

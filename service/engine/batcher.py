"""A bounded queue in front of the engine; what is short runs on the event loop, the rest beside it.

Life of a query: `submit` puts it in the queue (or refuses: QueueFullError). At the end of the event
loop's turn, if the engine is free and nobody else is on the way, what waits becomes a batch. A
batch that takes no longer than the event loop may be held up is computed right there: handing it
over to a thread and back, and two threads after one interpreter lock, cost more than that. Any
other goes to the one worker thread. A query whose caller left is skipped.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, Protocol, TypeVar

from service.engine.batch import (
    Answer,
    EngineFailedError,
    NoEngineError,
    Outcome,
    Waiting,
    compute,
)
from service.engine.contract import AS_PUBLISHED, BatchTimings, Engine, Price, Query
from service.engine.pace import Pace

__all__ = ["Answer", "Batcher", "EngineFailedError", "NoEngineError", "QueueFullError"]

T = TypeVar("T")

log = logging.getLogger("canet.batcher")

LOOP_SECONDS: Final = 0.0075
"""How long a batch may hold up the event loop: a small part of any objective for latency."""
# Of fewer together each costs more than handing them over saves.
_WORTH_SPLITTING: Final = 8


class QueueFullError(Exception):
    """The bound on waiting queries is reached; nothing was queued."""


Release = Literal["full", "idle", "alone", "gathered", "waited", "stopping"]


class BatchObserver(Protocol):
    """Told what happened, on the event loop."""

    def batch_released(self, reason: Release, variant: str) -> None:
        """Note why a batch went to the engine as it was.

        `full`: it holds as many queries as it may. `idle`: the engine had nothing to do and nobody
        else was on the way, so nothing was waited for. `alone`: one query waited behind another
        batch, and no other. `gathered`: it waited behind another batch or for others on the way,
        and holds them all. `waited`: its oldest query had waited long enough. `stopping`: the
        service ends, so nobody else will come.
        """
        ...

    def batch_done(
        self, queue_seconds: Sequence[float], timings: BatchTimings, variant: str
    ) -> None:
        """Note one engine call and how long each of its queries had waited."""
        ...

    def queue_rejected(self) -> None:
        """Note one refused query."""
        ...


class Batcher:
    """See the module. Belongs to one event loop; `start` and `stop` are called once each.

    `current` returns the engine to use, None when there is none. A batch holds at most
    `max_batch` queries. While callers that said `expect` are still on the way, it is held open
    until its oldest query has waited `max_wait_seconds`; a query that is alone in the service on
    an idle engine never waits. `price` is asked once per batch. Batches of more than
    `loop_seconds`, judged by the ones before, never run on the event loop; with 0 none does.
    """

    def __init__(
        self,
        current: Callable[[], Engine | None],
        *,
        observer: BatchObserver,
        max_batch: int = 16,
        max_wait_seconds: float = 0.002,
        queue_limit: int = 256,
        variant: str = "stable",
        price: Callable[[], Price] = lambda: AS_PUBLISHED,
        loop_seconds: float = LOOP_SECONDS,
    ) -> None:
        self._current = current
        self._price = price
        self._observer = observer
        self._max_batch = max_batch
        self._max_wait_seconds = max_wait_seconds
        self._queue_limit = queue_limit
        self._variant = variant
        self._pace = Pace(loop_seconds)
        self._waiting: deque[Waiting] = deque()
        self._expected = 0
        self._held = False
        self._computing = False
        self._due: asyncio.Handle | None = None
        self._late: asyncio.TimerHandle | None = None
        self._unanswered: set[asyncio.Future[Any]] = set()
        self._batches: queue.SimpleQueue[tuple[list[Waiting], Engine | None] | None]
        self._batches = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = False

    @property
    def depth(self) -> int:
        """Queries waiting right now; callable from any thread."""
        return len(self._waiting)

    def start(self) -> None:
        """Start the worker; call it on the event loop that will submit."""
        assert self._thread is None, "a batcher starts once"
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="canet-engine", daemon=True)
        self._thread.start()

    def expect(self) -> None:
        """Say that a query is about to come: a batch may wait for it. `arrive` must follow."""
        self._expected += 1

    def arrive(self) -> None:
        """Say that what was expected is here, or will not come."""
        self._expected -= 1
        if not self._expected and self._waiting:
            self._soon()

    async def submit(self, query: Query) -> Answer:
        """Return the current engine's answer.

        Raises QueueFullError, NoEngineError or EngineFailedError. Cancelling skips the query
        unless the engine already has it.
        """
        answer: Answer = await self._enqueue(query=query)
        return answer

    async def call(self, job: Callable[[Engine], T]) -> T:
        """Return `job(engine)`, run on the worker thread under the same bounds as a query.

        The contract's Unknown...Errors are raised as they are, others as EngineFailedError.
        """
        result: T = await self._enqueue(job=job)
        return result

    async def stop(self, grace_seconds: float = 20.0) -> None:
        """Finish what is queued, at most `grace_seconds`, then end the worker. Idempotent.

        What is not finished by then fails with NoEngineError: no caller waits for ever.
        """
        if self._stopping or self._thread is None:
            self._stopping = True
            return
        self._stopping = True
        waiting = list(self._unanswered)
        if waiting:
            self._soon()
            await asyncio.wait(waiting, timeout=grace_seconds)
        for future in list(self._unanswered):
            if not future.done():
                future.set_exception(NoEngineError("the service is stopping"))
        self._batches.put(None)
        # An idle worker ends within microseconds; one stuck in an engine is a daemon and is left.
        self._thread.join(timeout=1.0 if waiting else 5.0)

    def _enqueue(
        self, *, query: Query | None = None, job: Callable[[Engine], Any] | None = None
    ) -> asyncio.Future[Any]:
        if self._stopping or self._loop is None:
            raise NoEngineError("the service is stopping")
        if len(self._waiting) >= self._queue_limit:
            self._observer.queue_rejected()
            raise QueueFullError(f"{self._queue_limit} queries are waiting")
        future: asyncio.Future[Any] = self._loop.create_future()
        self._unanswered.add(future)
        future.add_done_callback(self._unanswered.discard)
        self._waiting.append(Waiting(future, time.perf_counter(), query, job))
        self._soon()
        return future

    def _soon(self) -> None:
        """Look at what waits at the end of this turn: whoever comes in it comes along."""
        if self._due is None and not self._computing and self._loop is not None:
            self._due = self._loop.call_soon(self._consider)

    def _consider(self) -> None:
        """Let a batch go if it is time."""
        self._due = None
        waiting = self._waiting
        while waiting and waiting[0].future.cancelled():
            waiting.popleft()
        if not waiting:
            self._held = False
        if self._computing or not waiting:
            return
        reason = self._reason()
        if reason is None:
            self._held = True
            self._wake()
            return
        self._held = False
        if self._late is not None:
            self._late.cancel()
            self._late = None
        engine = self._current()
        fits = self._pace.fits(engine)
        on_loop = len(waiting) <= fits or fits >= _WORTH_SPLITTING
        batch = self._take(min(self._max_batch, fits) if on_loop else self._max_batch)
        self._observer.batch_released(reason, self._variant)
        self._computing = True
        if on_loop and not any(one.job for one in batch):
            self._finish(engine, compute(batch, engine, self._price))
        else:
            self._batches.put((batch, engine))

    def _reason(self) -> Release | None:
        """Return why the batch goes now, None to wait for those on the way."""
        if self._stopping:
            return "stopping"
        if len(self._waiting) >= self._max_batch:
            return "full"
        if self._expected:
            waited = time.perf_counter() - self._waiting[0].queued_at
            return "waited" if waited >= self._max_wait_seconds else None
        if not self._held:
            return "idle"
        return "alone" if len(self._waiting) == 1 else "gathered"

    def _wake(self) -> None:
        assert self._loop is not None
        if self._late is None:
            left = self._waiting[0].queued_at + self._max_wait_seconds - time.perf_counter()
            self._late = self._loop.call_later(max(0.0, left), self._overdue)

    def _overdue(self) -> None:
        self._late = None
        if self._waiting:
            self._soon()

    def _take(self, most: int) -> list[Waiting]:
        batch: list[Waiting] = []
        while self._waiting and len(batch) < most:
            one = self._waiting.popleft()
            if not one.future.cancelled():
                batch.append(one)
        return batch

    def _finish(self, engine: Engine | None, outcome: Outcome) -> None:
        """Hand out what a batch brought, note it, and look at what waits meanwhile."""
        self._computing = False
        for future, value, error in outcome.results:
            if future.done():  # cancelled meanwhile, or given up by `stop`
                continue
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)
        if self._waiting:
            self._held = True
            self._soon()
        # Whoever has been answered goes on in the next turn: counted by then.
        for waits, timings in outcome.calls:
            self._pace.took(engine, timings, len(waits))
            self._observer.batch_done(waits, timings, self._variant)

    def _work(self) -> None:
        """Compute batches until told to end; the worker thread's whole life."""
        assert self._loop is not None
        while (given := self._batches.get()) is not None:
            batch, engine = given
            outcome = compute(batch, engine, self._price)
            try:
                self._loop.call_soon_threadsafe(self._finish, engine, outcome)
            except RuntimeError:
                log.warning("the event loop closed before %d answers were delivered", len(batch))

"""A bounded queue in front of one worker thread, which is the only place an engine computes.

Life of a query: `submit` puts it in the queue (or refuses: QueueFullError), the worker takes
what waits, asks once which engine is current, calls it, and hands every answer back to the
event loop in one wake-up. A query whose caller left is skipped.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from service.engine.contract import (
    AS_PUBLISHED,
    BatchTimings,
    Engine,
    Price,
    Query,
    Ranking,
    UnknownFieldError,
    UnknownItemError,
    UnknownSubmodelError,
)

T = TypeVar("T")

log = logging.getLogger("canet.batcher")


class QueueFullError(Exception):
    """The bound on waiting queries is reached; nothing was queued."""


class NoEngineError(Exception):
    """No model is loaded, or the batcher is stopping."""


class EngineFailedError(Exception):
    """The engine raised on this query; the cause is logged, and chained."""


Release = Literal["full", "idle", "alone", "waited", "stopping"]


class BatchObserver(Protocol):
    """Told what happened, from the worker thread; `rejected` from the event loop."""

    def batch_released(self, reason: Release, variant: str) -> None:
        """Note why a batch went to the engine as it was.

        `full`: it holds as many queries as it may. `idle`: the worker had nothing to do, so nothing
        was waited for. `alone`: one query waited behind another batch, and no other. `waited`: its
        oldest query had waited long enough. `stopping`: it was the last.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One query's ranking with the engine that made it and what the batch took."""

    ranking: Ranking
    engine: Engine
    queue_seconds: float
    timings: BatchTimings
    price: Price


@dataclass(slots=True, kw_only=True, eq=False)
class _Waiting:
    """A query, or a job for the worker thread, with the future that its caller awaits."""

    future: asyncio.Future[Any]
    queued_at: float
    query: Query | None = None
    job: Callable[[Engine], Any] | None = None


class Batcher:
    """See the module. Belongs to one event loop; `start` and `stop` are called once each.

    `current` returns the engine to use, None when there is none. A batch holds at most
    `max_batch` queries. When more queries wait than one, a batch may be held open until its
    oldest query has waited `max_wait_seconds`; a lone query on an idle worker never waits.
    `price` is asked once per batch, on the worker thread.
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
    ) -> None:
        self._current = current
        self._price = price
        self._observer = observer
        self._max_batch = max_batch
        self._max_wait_seconds = max_wait_seconds
        self._queue_limit = queue_limit
        self._variant = variant
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._unanswered: set[asyncio.Future[Any]] = set()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = False

    @property
    def depth(self) -> int:
        """Queries waiting right now; callable from any thread."""
        return self._queue.qsize()

    def start(self) -> None:
        """Start the worker; call it on the event loop that will submit."""
        assert self._thread is None, "a batcher starts once"
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="canet-engine", daemon=True)
        self._thread.start()

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
            await asyncio.wait(waiting, timeout=grace_seconds)
        for future in list(self._unanswered):
            if not future.done():
                future.set_exception(NoEngineError("the service is stopping"))
        self._queue.put(None)
        # An idle worker ends within microseconds; one stuck in an engine is a daemon and is left.
        self._thread.join(timeout=1.0 if waiting else 5.0)

    def _enqueue(
        self, *, query: Query | None = None, job: Callable[[Engine], Any] | None = None
    ) -> asyncio.Future[Any]:
        if self._stopping or self._loop is None:
            raise NoEngineError("the service is stopping")
        if self._queue.qsize() >= self._queue_limit:
            self._observer.queue_rejected()
            raise QueueFullError(f"{self._queue_limit} queries are waiting")
        future: asyncio.Future[Any] = self._loop.create_future()
        self._unanswered.add(future)
        future.add_done_callback(self._unanswered.discard)
        self._queue.put(
            _Waiting(future=future, queued_at=time.perf_counter(), query=query, job=job)
        )
        return future

    # Everything below runs on the worker thread.

    def _work(self) -> None:
        while True:
            idle = self._queue.empty()
            first = self._queue.get()
            if first is None:
                return
            batch, reason = self._gather(first, idle=idle)
            batch = [waiting for waiting in batch if not waiting.future.cancelled()]
            if batch:
                self._observer.batch_released(reason, self._variant)
                self._run(batch)
            if reason == "stopping":
                return

    def _gather(self, first: _Waiting, *, idle: bool) -> tuple[list[_Waiting], Release]:
        """Return the batch that starts with `first`, and why it ends where it does."""
        batch = [first]
        until = first.queued_at + self._max_wait_seconds
        while len(batch) < self._max_batch:
            try:
                another = self._queue.get_nowait()
            except queue.Empty:
                if idle:
                    return batch, "idle"
                if len(batch) == 1:
                    return batch, "alone"
                left = until - time.perf_counter()
                if left <= 0:
                    return batch, "waited"
                try:
                    another = self._queue.get(timeout=left)
                except queue.Empty:
                    return batch, "waited"
            if another is None:
                return batch, "stopping"
            batch.append(another)
        return batch, "full"

    def _run(self, batch: list[_Waiting]) -> None:
        results: list[tuple[asyncio.Future[Any], Any, BaseException | None]] = []
        try:
            engine = self._current()
            if engine is None:
                raise NoEngineError("no model is loaded")
            queries = [waiting for waiting in batch if waiting.query is not None]
            if queries:
                results += self._answer(engine, queries)
            for waiting in batch:
                if waiting.job is not None:
                    results.append(_do(waiting, engine))
        except BaseException as error:  # whatever happens here, nobody may be left waiting
            if not isinstance(error, NoEngineError):
                log.exception("the batch failed outside the engine")
            done = {future for future, _, _ in results}
            failure = error if isinstance(error, NoEngineError) else _failed(error)
            results += [(one.future, None, failure) for one in batch if one.future not in done]
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(_resolve, results)
        except RuntimeError:
            log.warning("the event loop closed before %d answers were delivered", len(results))

    def _answer(
        self, engine: Engine, queries: list[_Waiting]
    ) -> list[tuple[asyncio.Future[Any], Any, BaseException | None]]:
        started = time.perf_counter()
        asked = [waiting.query for waiting in queries if waiting.query is not None]
        try:
            price = self._price()
            rankings, timings = engine.recommend(asked, price)
            if len(rankings) != len(asked):
                raise RuntimeError(f"{len(rankings)} rankings for {len(asked)} queries")
        except Exception as error:
            if len(queries) > 1:
                log.warning("a batch of %d failed; its queries are run one by one", len(queries))
                return [result for one in queries for result in self._answer(engine, [one])]
            log.exception("the engine failed on one query")
            return [(queries[0].future, None, _failed(error))]
        waits = [started - waiting.queued_at for waiting in queries]
        self._observer.batch_done(waits, timings, self._variant)
        return [
            (
                waiting.future,
                Answer(
                    ranking=ranking,
                    engine=engine,
                    queue_seconds=wait,
                    timings=timings,
                    price=price,
                ),
                None,
            )
            for waiting, ranking, wait in zip(queries, rankings, waits, strict=True)
        ]


def _do(waiting: _Waiting, engine: Engine) -> tuple[asyncio.Future[Any], Any, BaseException | None]:
    assert waiting.job is not None
    try:
        return waiting.future, waiting.job(engine), None
    except (UnknownItemError, UnknownFieldError, UnknownSubmodelError) as error:
        return waiting.future, None, error
    except Exception as error:
        log.exception("the engine failed on a job")
        return waiting.future, None, _failed(error)


def _failed(cause: BaseException) -> EngineFailedError:
    failure = EngineFailedError("the engine failed on this query")
    failure.__cause__ = cause
    return failure


def _resolve(
    results: Sequence[tuple[asyncio.Future[Any], Any, BaseException | None]],
) -> None:
    for future, value, error in results:
        if future.done():  # cancelled meanwhile, or given up by `stop`
            continue
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)

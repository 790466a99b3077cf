"""One batch: what waits for an answer, and the engine call that gives it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.engine.contract import (
    BatchTimings,
    Engine,
    Price,
    Query,
    Ranking,
    UnknownFieldError,
    UnknownItemError,
    UnknownSubmodelError,
)

log = logging.getLogger("canet.batcher")


class NoEngineError(Exception):
    """No model is loaded, or the batcher is stopping."""


class EngineFailedError(Exception):
    """The engine raised on this query; the cause is logged, and chained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One query's ranking with the engine that made it and what the batch took."""

    ranking: Ranking
    engine: Engine
    queue_seconds: float
    timings: BatchTimings
    price: Price


@dataclass(slots=True, eq=False)
class Waiting:
    """A query, or a job for the worker thread, with the future that its caller awaits."""

    future: asyncio.Future[Any]
    queued_at: float
    query: Query | None = None
    job: Callable[[Engine], Any] | None = None


@dataclass(slots=True)
class Outcome:
    """What became of a batch: a value or an error for every future, and every engine call."""

    results: list[tuple[asyncio.Future[Any], Any, BaseException | None]] = field(
        default_factory=list
    )
    calls: list[tuple[list[float], BatchTimings]] = field(default_factory=list)
    """How long each query of a call had waited, seconds, and what the call took."""


def compute(batch: Sequence[Waiting], engine: Engine | None, price: Callable[[], Price]) -> Outcome:
    """Answer the batch; whatever happens, nobody is left without a result.

    Touches no future: what comes back is for the event loop to hand out.
    """
    outcome = Outcome()
    try:
        if engine is None:
            raise NoEngineError("no model is loaded")
        queries = [waiting for waiting in batch if waiting.query is not None]
        if queries:
            _answer(outcome, engine, queries, price)
        for waiting in batch:
            if waiting.job is not None:
                outcome.results.append(_do(waiting, engine))
    except BaseException as error:
        if not isinstance(error, NoEngineError):
            log.exception("the batch failed outside the engine")
        done = {future for future, _, _ in outcome.results}
        failure = error if isinstance(error, NoEngineError) else _failed(error)
        outcome.results += [(one.future, None, failure) for one in batch if one.future not in done]
    return outcome


def _answer(
    outcome: Outcome, engine: Engine, queries: list[Waiting], price: Callable[[], Price]
) -> None:
    started = time.perf_counter()
    asked = [waiting.query for waiting in queries if waiting.query is not None]
    try:
        paid = price()
        rankings, timings = engine.recommend(asked, paid)
        if len(rankings) != len(asked):
            raise RuntimeError(f"{len(rankings)} rankings for {len(asked)} queries")
    except Exception as error:
        if len(queries) > 1:
            log.warning("a batch of %d failed; its queries are run one by one", len(queries))
            for one in queries:
                _answer(outcome, engine, [one], price)
        else:
            log.exception("the engine failed on one query")
            outcome.results.append((queries[0].future, None, _failed(error)))
        return
    waits = [started - waiting.queued_at for waiting in queries]
    outcome.calls.append((waits, timings))
    for waiting, ranking, wait in zip(queries, rankings, waits, strict=True):
        answer = Answer(
            ranking=ranking, engine=engine, queue_seconds=wait, timings=timings, price=paid
        )
        outcome.results.append((waiting.future, answer, None))


def _do(waiting: Waiting, engine: Engine) -> tuple[asyncio.Future[Any], Any, BaseException | None]:
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

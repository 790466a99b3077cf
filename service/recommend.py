"""The use case: a user or a history in, a ranking out, whatever is down or late."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from service.cache.results import ResultCache, result_key
from service.deadlines import Deadlines
from service.engine.batcher import Answer, EngineFailedError, NoEngineError, QueueFullError
from service.engine.contract import Blocked, Engine, Flops, Price, Query, Ranking
from service.impressions import Impressions
from service.lifecycle.contract import Variant
from service.lifecycle.lines import Line, Lines
from service.lifecycle.shadow import Shadow
from service.metrics.metrics import Metrics
from service.store.contract import HistoryStore, StoreUnavailableError
from service.tracing.contract import Mark, Marks
from service.ulid import Ulids


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """One answer: the ranking, the engine that made it, and what it took and lacked."""

    recommendation_id: str
    variant: Variant
    ranking: Ranking
    engine: Engine
    degraded: tuple[str, ...]
    history_source: str
    """`request`, `store`, or `none` when the store was away or the deadline passed before it."""
    stage_seconds: dict[str, float]

    @property
    def saved_ratio(self) -> float:
        """Share of the full network's FLOPs that this answer did not spend; 0 without a model."""
        full = self.ranking.flops_full.total
        return 1.0 - self.ranking.flops.total / full if full else 0.0


class Recommender:
    """Answers queries; histories come from the caller or the store, rankings from the batcher.

    Never waits longer than the deadline: then popular items answer, flagged `deadline`. With a
    `cache` the same question is computed once; `price` says what routing pays now, `blocked` what
    nobody is shown.
    """

    def __init__(
        self,
        *,
        store: HistoryStore,
        lines: Lines,
        shadow: Shadow,
        metrics: Metrics,
        history_max: int,
        deadline_seconds: float,
        price: Callable[[], Price],
        blocked: Callable[[], Blocked],
        impressions: Impressions,
        cache: ResultCache | None = None,
    ) -> None:
        self._store = store
        self._lines = lines
        self._shadow = shadow
        self._metrics = metrics
        self._history_max = history_max
        self._deadline_seconds = deadline_seconds
        self._price = price
        self._blocked = blocked
        self._impressions = impressions
        self._cache = cache
        self._new_id = Ulids()
        self._deadlines = Deadlines()

    async def recommend(
        self,
        query: Query,
        *,
        user_id: str | None,
        asks: str | None = None,
        deadline_seconds: float | None = None,
        marks: Marks | None = None,
    ) -> Recommendation:
        """Return the answer to `query`; with a `user_id` its history is read from the store.

        Without one the query's own history stands and the store is not touched; with one, what
        is answered is remembered for the events that name it. `asks` is the
        user by whom variants are told apart where `user_id` is not given. The store being away
        degrades the answer, never fails it. What ran is appended to `marks`.
        Raises UnknownSubmodelError and UnknownFieldError of `Engine.check`, NoEngineError,
        QueueFullError, EngineFailedError.
        """
        asks = user_id if asks is None else asks
        line = self._lines.of(query, asks)
        blocked = self._blocked()
        history = query.history
        degraded: list[str] = []
        stages: dict[str, float] = {}
        source = "request" if user_id is None else "none"
        try:
            with self._deadlines.within(deadline_seconds or self._deadline_seconds):
                if user_id is not None:
                    started = time.perf_counter()
                    line.batcher.expect()
                    try:
                        history = tuple(await self._store.recent(user_id, self._history_max))
                        source = "store"
                    except StoreUnavailableError:
                        degraded.append("redis_down")
                    finally:
                        line.batcher.arrive()
                        stages["redis"] = time.perf_counter() - started
                        self._metrics.stage("redis", stages["redis"])
                        if marks is not None:
                            marks.append(Mark("redis", started, stages["redis"]))
                query = query.asking(history, blocked)
                kept = self._kept(line.engine, query)
                if kept is None:
                    asked = time.perf_counter()
                    line, answer = await self._ask(line, query)
        except TimeoutError:
            degraded.append("deadline")
            engine = line.engine
            query = query.asking(history, blocked)
            ranking = _without_network(await _popular(engine, query), reason="deadline")
        else:
            if kept is not None:
                ranking, engine = kept, line.engine
            else:
                ranking, engine = answer.ranking, answer.engine
                stages |= _stages(answer)
                if marks is not None:
                    marks += _marks(answer, asked)
                self._keep(query, answer)
                self._shadow.compare(query, ranking, asks)
        if ranking.reason == "overload":
            degraded.append("overload")
        if ranking.short_list:
            degraded.append("short_list")
        self._metrics.answered(ranking, degraded, line.variant)
        recommendation_id = self._new_id(ranking.model_version)
        if user_id is not None:
            self._impressions.note(user_id, recommendation_id, ranking, line.variant)
        return Recommendation(
            recommendation_id=recommendation_id,
            variant=line.variant,
            ranking=ranking,
            engine=engine,
            degraded=tuple(degraded),
            history_source=source,
            stage_seconds=stages,
        )

    def _kept(self, engine: Engine, query: Query) -> Ranking | None:
        if self._cache is None:
            return None
        found = self._cache.get(result_key(engine.info, self._price(), query))
        self._metrics.cache_asked(hit=found is not None)
        return found

    def _keep(self, query: Query, answer: Answer) -> None:
        # Under the model and price that the batch ran with, whatever holds by now. What overload
        # made smaller is not kept: it would outlive the overload.
        if self._cache is not None and answer.price.surcharge == 0:
            key = result_key(answer.engine.info, answer.price, query)
            self._cache.put(key, answer.ranking)

    async def _ask(self, line: Line, query: Query) -> tuple[Line, Answer]:
        """Return the answer and who gave it: the stable line where the candidate cannot."""
        try:
            return line, await line.batcher.submit(query)
        except (EngineFailedError, QueueFullError, NoEngineError) as error:
            if line.variant == "stable":
                raise
            self._metrics.candidate_failed(type(error).__name__)
        stable = self._lines.stable()
        stable.engine.check(query)
        return stable, await stable.batcher.submit(query)


async def _popular(engine: Engine, query: Query) -> Ranking:
    # A filter is the one part whose price grows with the catalog: not on the event loop.
    if query.filter is None:
        return engine.popular(query)
    return await asyncio.to_thread(engine.popular, query)


def _without_network(ranking: Ranking, *, reason: str) -> Ranking:
    return replace(
        ranking, source="popular", submodel=None, flops=Flops(), flops_full=Flops(), reason=reason
    )


def _stages(answer: Answer) -> dict[str, float]:
    timings = answer.timings
    return {
        "queue": answer.queue_seconds,
        "route": timings.route_seconds,
        "encode": timings.encode_seconds,
        "score": timings.score_seconds,
    }


def _marks(answer: Answer, asked: float) -> Marks:
    """Return the stages of an answer that was asked for at `asked`: one began as another ended."""
    marks: Marks = []
    for stage, seconds in _stages(answer).items():
        marks.append(Mark(stage, asked, seconds))
        asked += seconds
    return marks

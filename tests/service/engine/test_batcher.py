"""Nobody waits for ever, nobody gets another's answer, one poisoned query harms itself only."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from service.engine.batcher import (
    Answer,
    Batcher,
    EngineFailedError,
    NoEngineError,
    QueueFullError,
)
from service.engine.contract import AS_PUBLISHED, Engine, Query, UnknownItemError
from service.metrics.metrics import Metrics
from tests.service.fakes import CATALOG, FakeEngine


def query(place: int, *, poison: bool = False) -> Query:
    return Query(history=(CATALOG[place],), k=1, candidates=("poison",) if poison else None)


@asynccontextmanager
async def started(
    engine: Engine | None,
    *,
    max_batch: int = 16,
    max_wait_seconds: float = 0.002,
    queue_limit: int = 1000,
) -> AsyncIterator[Batcher]:
    batcher = Batcher(
        lambda: engine,
        observer=Metrics(CollectorRegistry()),
        max_batch=max_batch,
        max_wait_seconds=max_wait_seconds,
        queue_limit=queue_limit,
    )
    batcher.start()
    try:
        yield batcher
    finally:
        await batcher.stop(5.0)


def answers_its_query(answer: Answer, place: int) -> bool:
    return answer.ranking.items[0].external_id == CATALOG[(place + 1) % len(CATALOG)]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 98), st.sampled_from(["keep", "cancel", "poison"])), max_size=60
    ),
    st.integers(1, 8),
    st.sampled_from([0.0, 0.002]),
)
def test_everybody_gets_their_own_answer_or_their_own_error(
    asked: list[tuple[int, str]], max_batch: int, max_wait: float
) -> None:
    async def run() -> None:
        engine = FakeEngine()
        async with started(engine, max_batch=max_batch, max_wait_seconds=max_wait) as batcher:
            tasks = [
                asyncio.create_task(batcher.submit(query(place, poison=what == "poison")))
                for place, what in asked
            ]
            await asyncio.sleep(0)
            for task, (_, what) in zip(tasks, asked, strict=True):
                if what == "cancel":
                    task.cancel()
            done = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
            for result, (place, what) in zip(done, asked, strict=True):
                if what == "poison":
                    assert isinstance(result, EngineFailedError)
                    assert "secret" not in str(result)
                elif what == "cancel":
                    assert isinstance(result, asyncio.CancelledError)
                else:
                    assert isinstance(result, Answer)
                    assert answers_its_query(result, place)
            assert all(size <= max_batch for size in engine.batches)
        assert batcher.depth == 0

    asyncio.run(run())


async def test_queries_that_arrive_while_the_engine_runs_share_the_next_batch() -> None:
    engine = FakeEngine(gate=threading.Event())
    assert engine.gate is not None
    async with started(engine, max_batch=4) as batcher:
        first = asyncio.create_task(batcher.submit(query(0)))
        await asyncio.to_thread(engine.entered.wait, 5)
        rest = [asyncio.create_task(batcher.submit(query(place))) for place in range(1, 6)]
        await asyncio.sleep(0)
        engine.gate.set()
        await asyncio.gather(first, *rest)
    assert engine.batches == [1, 4, 1]


async def test_a_full_queue_refuses_and_a_cancelled_query_never_reaches_the_engine() -> None:
    engine = FakeEngine(gate=threading.Event())
    assert engine.gate is not None
    async with started(engine, queue_limit=2) as batcher:
        first = asyncio.create_task(batcher.submit(query(0)))
        await asyncio.to_thread(engine.entered.wait, 5)
        waiting = [asyncio.create_task(batcher.submit(query(place))) for place in (1, 2)]
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError):
            await batcher.submit(query(3))
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        engine.gate.set()
        assert answers_its_query(await first, 0)
    assert engine.batches == [1]


async def test_without_a_model_and_after_stop_queries_are_refused() -> None:
    async with started(None) as batcher:
        with pytest.raises(NoEngineError):
            await batcher.submit(query(0))
    with pytest.raises(NoEngineError):
        await batcher.submit(query(0))


async def test_stop_finishes_what_is_queued() -> None:
    engine = FakeEngine()
    async with started(engine, max_batch=2) as batcher:
        tasks = [asyncio.create_task(batcher.submit(query(place))) for place in range(9)]
        await asyncio.sleep(0)
        await batcher.stop(5.0)
        answers = await asyncio.gather(*tasks)
    assert all(answers_its_query(answer, place) for place, answer in enumerate(answers))


async def test_stop_gives_up_on_a_stuck_engine_and_tells_the_callers() -> None:
    engine = FakeEngine(gate=threading.Event())
    assert engine.gate is not None
    batcher = Batcher(lambda: engine, observer=Metrics(CollectorRegistry()))
    batcher.start()
    task = asyncio.create_task(batcher.submit(query(0)))
    await asyncio.to_thread(engine.entered.wait, 5)
    stop = asyncio.create_task(batcher.stop(0.01))
    with pytest.raises(NoEngineError):
        await task
    engine.gate.set()
    await stop


async def test_a_batch_uses_one_engine_however_often_it_is_swapped() -> None:
    calls: list[Engine] = []
    engines = [FakeEngine("v1"), FakeEngine("v2")]

    def current() -> Engine:
        calls.append(engines[len(calls) % 2])
        return calls[-1]

    batcher = Batcher(current, observer=Metrics(CollectorRegistry()), max_batch=8)
    batcher.start()
    answers = await asyncio.gather(*(batcher.submit(query(place)) for place in range(50)))
    await batcher.stop(5.0)
    assert len(calls) == sum(len(engine.batches) for engine in engines)
    for answer in answers:
        assert answer.ranking.model_version == answer.engine.info.version


async def test_an_engine_that_loses_a_ranking_is_an_error_not_a_mix_up() -> None:
    class Forgetful(FakeEngine):
        def recommend(self, queries, price=AS_PUBLISHED):  # type: ignore[no-untyped-def]
            rankings, timings = super().recommend(queries, price)
            return rankings[1:], timings

    async with started(Forgetful()) as batcher:
        results = await asyncio.gather(
            *(batcher.submit(query(place)) for place in range(3)), return_exceptions=True
        )
    assert all(isinstance(result, EngineFailedError) for result in results)


async def test_jobs_run_on_the_worker_and_keep_the_errors_of_the_contract() -> None:
    async with started(FakeEngine()) as batcher:
        assert await batcher.call(lambda engine: engine.info.version) == "v1"
        assert await batcher.call(lambda _: threading.current_thread().name) == "canet-engine"
        with pytest.raises(UnknownItemError):
            await batcher.call(lambda engine: engine.similar("nope", 3))
        with pytest.raises(EngineFailedError):
            await batcher.call(lambda _: 1 // 0)
        assert answers_its_query(await batcher.submit(query(4)), 4)

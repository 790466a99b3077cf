"""Short batches run on the event loop, long and unknown ones on the worker; both answer alike."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest
from prometheus_client import CollectorRegistry

from service.engine.batcher import Batcher
from service.engine.contract import AS_PUBLISHED, BatchTimings, Price, Query, Ranking, Work
from service.engine.pace import Pace
from service.metrics.labels import RELEASES
from service.metrics.metrics import Metrics
from tests.service.fakes import CATALOG, FakeEngine


class Timed(FakeEngine):
    """Tells that a query takes `each` CPU seconds, and remembers where it ran."""

    def __init__(self, each: float) -> None:
        super().__init__()
        self.each = each
        self.threads: list[str] = []

    def recommend(
        self, queries: Sequence[Query], price: Price = AS_PUBLISHED
    ) -> tuple[list[Ranking], BatchTimings]:
        self.threads.append(threading.current_thread().name)
        rankings, _ = super().recommend(queries, price)
        work = Work(cpu_seconds=self.each * len(queries))
        return rankings, BatchTimings(work={("all", "router"): work} if self.each else {})


def query(place: int) -> Query:
    return Query(history=(CATALOG[place],), k=1)


async def ask(batcher: Batcher, places: Sequence[int]) -> None:
    answers = await asyncio.gather(*(batcher.submit(query(place)) for place in places))
    for answer, place in zip(answers, places, strict=True):
        assert answer.ranking.items[0].external_id == CATALOG[place + 1]


def made(engine: FakeEngine, **more: float) -> tuple[Batcher, CollectorRegistry]:
    registry = CollectorRegistry()
    batcher = Batcher(lambda: engine, observer=Metrics(registry), **more)  # type: ignore[arg-type]
    batcher.start()
    return batcher, registry


@pytest.mark.parametrize(
    ("each", "loop_seconds", "together", "on_loop"),
    [
        (0.001, 0.005, 5, True),
        (0.001, 0.005, 6, False),  # too long, and too few fit
        (0.0005, 0.005, 16, True),  # in parts: ten fit
        (0.004, 0.005, 1, True),
        (0.006, 0.005, 1, False),
        (0.0005, 0.0, 1, False),  # never
        (0.0, 0.005, 1, False),  # an engine that tells nothing
    ],
)
async def test_what_is_short_runs_on_the_event_loop(
    each: float, loop_seconds: float, together: int, on_loop: bool
) -> None:
    engine = Timed(each)
    batcher, _ = made(engine, loop_seconds=loop_seconds)
    await ask(batcher, [0])
    assert engine.threads == ["canet-engine"], "nothing was known of it"
    await ask(batcher, range(together))
    here = threading.current_thread().name
    assert set(engine.threads[1:]) == {here if on_loop else "canet-engine"}
    if on_loop:
        assert max(engine.batches) <= loop_seconds / each
    await batcher.stop(5.0)


async def test_a_new_engine_is_tried_on_the_worker_first() -> None:
    engines = [Timed(0.0001), Timed(0.0001)]
    now = iter([engines[0], engines[0], engines[1], engines[1]])
    batcher = Batcher(lambda: next(now), observer=Metrics(CollectorRegistry()))
    batcher.start()
    for place in range(4):
        await ask(batcher, [place])
    here = threading.current_thread().name
    for engine in engines:
        assert engine.threads == ["canet-engine", here]
    await batcher.stop(5.0)


async def test_jobs_run_on_the_worker_however_quick_the_engine() -> None:
    engine = Timed(0.0001)
    batcher, _ = made(engine)
    await ask(batcher, [0])
    both = asyncio.gather(
        batcher.submit(query(1)), batcher.call(lambda _: threading.current_thread().name)
    )
    assert (await both)[1] == "canet-engine"
    await batcher.stop(5.0)


async def test_a_batch_waits_for_those_on_the_way() -> None:
    engine = Timed(0.0001)
    batcher, registry = made(engine, max_wait_seconds=30.0)

    async def comes(place: int) -> None:
        batcher.arrive()
        await batcher.submit(query(place))

    await ask(batcher, [0])
    batcher.expect()
    first = asyncio.create_task(batcher.submit(query(1)))
    await asyncio.sleep(0.005)
    assert not first.done(), "another is on the way"
    await asyncio.gather(comes(2), first)
    assert engine.batches == [1, 2]
    batcher.expect()
    left = asyncio.create_task(batcher.submit(query(3)))
    await asyncio.sleep(0.005)
    assert not left.done()
    batcher.arrive()  # without a query: its caller left
    await left
    assert released(registry) == {"idle": 1, "gathered": 1, "alone": 1}
    await batcher.stop(5.0)


async def test_nobody_waits_long_for_who_does_not_come() -> None:
    batcher, registry = made(Timed(0.0001), max_wait_seconds=0.01)
    batcher.expect()
    await ask(batcher, [0])
    await ask(batcher, [1, 2])
    batcher.arrive()
    assert released(registry) == {"waited": 2}
    await batcher.stop(5.0)


def released(registry: CollectorRegistry) -> dict[str, float]:
    """Return how many batches went for which reason."""
    told = {
        reason: registry.get_sample_value("canet_batch_released_total", {"reason": reason}) or 0.0
        for reason in RELEASES
    }
    return {reason: count for reason, count in told.items() if count}


async def test_an_answer_is_counted_before_its_caller_has_it() -> None:
    engine = Timed(0.0001)
    batcher, registry = made(engine)
    for place in range(3):
        await ask(batcher, [place])
        assert registry.get_sample_value("canet_batch_size_sum") == place + 1
    await batcher.stop(5.0)


def test_one_dear_batch_does_not_tell_an_engines_pace() -> None:
    engine, other = Timed(0.0), Timed(0.0)
    pace = Pace(0.005)
    assert pace.fits(engine) == 0

    def took(seconds: float, queries: int) -> None:
        work = {("all", "router"): Work(cpu_seconds=seconds)}
        pace.took(engine, BatchTimings(work=work), queries)  # type: ignore[arg-type]

    took(0.004, 8)
    assert pace.fits(engine) == 10
    took(0.0, 8)  # no network ran
    assert pace.fits(engine) == 10
    took(0.01, 1)
    assert 5 < pace.fits(engine) < 10
    assert pace.fits(other) == 0
    assert pace.fits(None) == 0

"""The FLOP counters equal what torch's own counter finds in the shapes that were executed.

CI asks 1,500 times at 3,000 items, and 500 times with an index over them. CANET_LONG_TESTS=1 asks
10,000 times at 3,000, 100,000 and 1,000,000 items, which takes a few minutes and 3 GB of memory.
What is asked again meets the result cache.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bench.synthetic_checkpoint import SyntheticModel, item_id, publish_synthetic
from bench.synthetic_users import make_histories
from models.config import Submodel
from models.ranker import Ranker
from models.search.search import INDEX_FROM_ROWS
from service.engine import torch_engine
from service.engine.contract import EVERY_SUBMODEL, PARTS
from service.engine.scoring import Scorer, choose_scorer
from service.engine.torch_engine import TorchEngine
from tests.e2e.executed import Executed
from tests.e2e.live import Live, live, until
from tests.e2e.mix import send_mix

LONG = os.environ.get("CANET_LONG_TESTS") == "1"
PUBLISHED = INDEX_FROM_ROWS
CASES = (
    [(3_000, 10_000, PUBLISHED), (100_000, 10_000, PUBLISHED), (1_000_000, 10_000, PUBLISHED)]
    if LONG
    else [(3_000, 1_500, PUBLISHED), (3_000, 500, 1)]
)
USERS = 200
# Another width of the table beside those that are served anyway.
NARROW = Submodel(depth=1, width=16, emb_width=16)
WITHIN = 0.01


@pytest.mark.parametrize(("items", "requests", "index_from"), CASES)
async def test_the_counters_are_true(
    items: int,
    requests: int,
    index_from: int,
    tmp_path: Path,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def scorer(ranker: Ranker, **_: int) -> Scorer:
        return choose_scorer(ranker, index_from=index_from)

    monkeypatch.setattr(torch_engine, "choose_scorer", scorer)
    model = SyntheticModel(items=items, depth=3, width=64, emb_width=32, length=50, more=(NARROW,))
    histories = make_histories(users=USERS, items=items, length=12, most=120)
    publish_synthetic(tmp_path, model, histories)
    async with live(tmp_path, redis_url, max_batch=8, result_ttl=600) as service:
        batches = Batches(monkeypatch)
        executed = Executed(monkeypatch)
        for place, rows in enumerate(histories.rows):
            await service.tell(f"u{place}", *map(item_id, rows[-100:]))
        answers = await ask_mix(service, model, requests)
        await until(lambda: service.metric("batch_size_count") == batches.finished)

        assert bool(executed.searched) == (items >= index_from)
        spent = executed.flops()
        for part in PARTS:
            counted = service.metric("compute_flops_total", part=part)
            assert counted == pytest.approx(spent[part], rel=WITHIN), part

        sources = Counter(answer["source"] for answer in answers)
        assert sources["model"] > sources["popular"] > 0
        assert sources["cache"] > 0  # costs nothing and saves nothing
        by_model = [answer for answer in answers if answer["source"] == "model"]
        baseline: Counter[str] = Counter()
        for answer in by_model:
            baseline.update(executed.full(answer["history_length"]))
        for part in PARTS:
            counted = service.metric("compute_baseline_flops_total", part=part)
            assert counted == pytest.approx(baseline[part], rel=WITHIN), part

        # Every padded length and several submodels took part, and some work was in vain.
        assert {length for _, length in executed.encoded} >= set(executed.ranker.buckets)  # type: ignore[union-attr]
        # Submodels that read the newest items alone were handed no more.
        for place, one in enumerate(model.served):
            most = max(length for short, length in executed.encoded if short == place)
            assert most == one.reads(model.length)
        assert len({place for place, _ in executed.encoded}) == len(model.served)
        assert any("deadline" in answer["degraded"] for answer in answers)
        by_submodel = [
            service.metric("inference_flops_total", variant="stable", submodel=name)
            for name in (EVERY_SUBMODEL, *(one.name for one in model.served))
        ]
        assert sum(by_submodel) == sum(
            service.metric("compute_flops_total", part=part) for part in PARTS
        )
        assert min(by_submodel) > 0
        for part in ("encoder", "scoring"):
            cpu = [
                service.metric(
                    "inference_cpu_seconds_total", variant="stable", submodel=one.name, part=part
                )
                for one in model.served
            ]
            assert min(cpu) > 0
            assert service.metric("inference_baseline_cpu_seconds_total", part=part) > 0


class Batches:
    """Counts the engine calls that came to an end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.finished = 0
        recommend = TorchEngine.recommend

        def spy(engine: TorchEngine, *arguments: Any) -> Any:
            found = recommend(engine, *arguments)
            self.finished += 1
            return found

        monkeypatch.setattr(TorchEngine, "recommend", spy)


def request_of(generator: random.Random, model: SyntheticModel, number: int) -> dict[str, Any]:
    """One request of the mix: users known and unknown, histories, filters, limits, haste."""
    body: dict[str, Any] = {"k": generator.randint(1, 20)}
    kind = generator.choice(("user", "user", "user", "nobody", "inline", "inline"))
    if kind == "inline":
        length = min(int(generator.expovariate(1 / 15)), 120)
        rows = [generator.randint(1, model.items + 50) for _ in range(length)]
        body["history"] = [item_id(row) for row in rows]
    else:
        body["user_id"] = f"u{generator.randrange(USERS)}" if kind == "user" else f"x{number}"
    submodel = generator.choice(model.served).name
    body["compute"] = generator.choice(
        (
            {},
            {},
            {},
            {"mode": "full"},
            {"mode": "fixed", "submodel": submodel},
            {"max_ratio": round(generator.random(), 2)},
            {"deadline_ms": 5},
        )
    )
    if generator.random() < 0.1:
        body["candidates"] = some_items(generator, model, 30)
    if generator.random() < 0.1:
        body["exclude_items"] = some_items(generator, model, 5)
    return body


def some_items(generator: random.Random, model: SyntheticModel, count: int) -> list[str]:
    return [item_id(row) for row in generator.sample(range(1, model.items + 1), count)]


async def ask_mix(service: Live, model: SyntheticModel, requests: int) -> list[dict[str, Any]]:
    """Send the mix, some alone, some in batches, sixteen at a time; return every answer."""
    generator = random.Random(11)
    left = [request_of(generator, model, number) for number in range(requests)]
    for number in range(requests // 2, requests, 8):  # asked before: the result cache may answer
        left[number] = left[generator.randrange(requests // 2)]
    return await send_mix(service, left, generator, batch=6, at_once=16)

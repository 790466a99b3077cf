"""What a caller is promised, asked of the real thing over a real store."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from models.checkpoint.manifest import Manifest
from models.checkpoint.read import read_checkpoint
from models.config import Submodel
from models.cost import Cost, encoder_flops, full_cost, router_flops, scoring_flops
from models.lengths import padded_length
from models.router import NEWEST
from models.surprise import Surprise
from service.engine.contract import Query
from service.engine.torch_engine import TorchEngine
from service.store.embedded import EmbeddedServer
from tests.e2e.live import Live, engine_of, ids, live, until
from tests.e2e.mix import send_mix
from tests.models.builders import random_memory
from tests.models.published import publish_random

PARTS = ("router", "encoder", "scoring")
REQUESTS = 300


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    publish_random(directory, seed=0)
    return directory


@pytest.fixture(scope="module")
def version(root: Path) -> str:
    return (root / "CURRENT").read_text().split()[0]


@pytest.fixture(scope="module")
def engine(root: Path, version: str) -> TorchEngine:
    return engine_of(root, version)


@pytest.fixture(scope="module")
def manifest(root: Path, version: str) -> Manifest:
    return read_checkpoint(root / version).manifest


@pytest.fixture
async def service(root: Path, redis_url: str) -> AsyncIterator[Live]:
    async with live(root, redis_url) as running:
        yield running


async def test_every_event_shows_in_the_very_next_answer(
    service: Live, engine: TorchEngine
) -> None:
    history: list[str] = []
    for item in ("item-5", "item-9", "item-2", "item-31"):
        history.append(item)
        assert (await service.tell("u", *history))["accepted"] == 1
        told = await service.recommend(user_id="u", k=40)
        assert (told["source"], told["history_length"]) == ("model", len(history))
        assert not set(ids(told)) & set(history)
        (ranking,), _ = engine.recommend([Query(history=tuple(history), k=40)])
        assert ids(told) == [item.external_id for item in ranking.items]


async def test_an_inline_history_answers_as_the_same_remembered_one(service: Live) -> None:
    history = ["item-3", "item-1", "item-7"]
    await service.tell("u", *history)
    remembered = await service.recommend(user_id="u", include=["scores"])
    inline = await service.recommend(history=history, include=["scores"])
    assert inline["items"] == remembered["items"]
    both = await service.recommend(user_id="u", history=["item-4"], include=["explain"])
    assert (both["history_length"], both["explain"]["history_source"]) == (1, "request")


async def test_every_way_to_narrow_an_answer_holds_and_equals_the_engine(
    service: Live, engine: TorchEngine
) -> None:
    history = ["item-3", "item-1", "item-7"]
    everything = ids(await service.recommend(history=history, k=500))
    assert sorted(everything) == sorted({f"item-{n}" for n in range(1, 41)} - set(history))
    assert ids(await service.recommend(history=history, k=7)) == everything[:7]

    seen = ids(await service.recommend(history=history, k=500, exclude_seen=False))
    assert set(history) <= set(seen)
    assert [item for item in seen if item not in history] == everything

    without = everything[:5]
    left = await service.recommend(history=history, k=500, exclude_items=[*without, "no-such"])
    assert ids(left) == everything[5:]
    assert left["missing_items"] == ["no-such"]

    asked = [*everything[20:10:-2], "item-1", "absent"]
    among = await service.recommend(history=history, candidates=asked)
    assert ids(among) == [item for item in everything if item in asked]
    assert (among["missing_items"], among["degraded"]) == (["absent"], ["short_list"])

    clauses = {
        "must": [{"field": "genres", "any_of": ["noir", "drama"]}],
        "must_not": [{"field": "genres", "any_of": ["drama"]}],
    }
    noir = await service.recommend(history=history, k=500, filter=clauses, include=["attributes"])
    assert ids(noir) == [item for item in everything if int(item[5:]) % 3 == 2]
    for row in noir["items"]:
        assert row["attributes"] == dict(engine.attributes(row["item_id"]))
    relaxed = await service.recommend(
        history=history, k=37, filter=clauses, strict_filter=False, exclude_items=everything[:1]
    )
    # What passes comes first; what fills up may miss `must`, and never what `must_not` rules out.
    passing = [item for item in ids(noir) if item != everything[0]]
    assert ids(relaxed)[: len(passing)] == passing
    assert set(ids(relaxed)) == {item for item in everything[1:] if int(item[5:]) % 3 != 0}

    scored = await service.recommend(history=history, k=5, include=["scores"])
    (ranking,), _ = engine.recommend([Query(history=tuple(history), k=5)])
    assert [(row["item_id"], row["score"]) for row in scored["items"]] == [
        (item.external_id, pytest.approx(item.score, abs=1e-5)) for item in ranking.items
    ]


async def test_an_unknown_user_gets_popular_items_and_is_told_so(service: Live) -> None:
    told = await service.recommend(user_id="nobody", k=3)
    assert told["source"] == "popular"
    assert ids(told) == ["item-1", "item-2", "item-3"]
    compute = told["compute"]
    assert (compute["submodel"], compute["flops"], compute["flops_full"]) == (None, 0, 0)
    await service.tell("stranger", "of-another-catalog")
    assert (await service.recommend(user_id="stranger"))["source"] == "popular"


async def test_a_batch_answers_in_order_each_as_if_alone(service: Live) -> None:
    histories = [[f"item-{n}", f"item-{n + 7}"] for n in range(1, 20)]
    requests: list[dict[str, Any]] = [{"history": history, "k": 5} for history in histories]
    requests[4] = {"history": ["item-1"], "k": 0}
    requests[9] = {"history": ["item-1"], "compute": {"mode": "fixed", "submodel": "d9-w8-e8"}}
    response = await service.client.post("/v1/recommend/batch", json={"requests": requests})
    results = response.json()["results"]
    assert len(results) == len(requests)
    for place, (request, result) in enumerate(zip(requests, results, strict=True)):
        if place in (4, 9):
            assert result["problem"]["status"] == 422
        else:
            assert ids(result["result"]) == ids(await service.recommend(**request))


async def test_similar_items_and_the_model_are_those_of_the_checkpoint(
    service: Live, engine: TorchEngine, manifest: Manifest
) -> None:
    told = (await service.client.get("/v1/items/item-4/similar", params={"k": 6})).json()
    assert [(row["item_id"], row["score"]) for row in told["items"]] == [
        (item.external_id, pytest.approx(item.score, abs=1e-5))
        for item in engine.similar("item-4", 6)
    ]
    assert (await service.client.get("/v1/items/nope/similar")).status_code == 404

    model = (await service.client.get("/v1/model")).json()
    assert (model["version"], model["digest"]) == (manifest.version, engine.info.digest)
    assert model["catalog"] == {
        "num_items": 40,
        "filterable_fields": ["genres", "new", "title"],
        "search": "product",
        "table_bytes": 4 * 41 * 12,
        "head": "full",
    }
    assert [(row["name"], row["flops"]) for row in model["submodels"]] == [
        (entry.name, entry.flops) for entry in manifest.submodels
    ]


async def test_histories_are_read_replaced_merged_and_forgotten(service: Live) -> None:
    client = service.client
    await service.tell("a", "item-1", "item-2")
    await service.tell("b", "item-8")
    read = (await client.get("/v1/users/a/history")).json()
    assert [row["item_id"] for row in read["items"]] == ["item-1", "item-2"]
    merged = await client.post("/v1/users/a/merge", json={"source_user_id": "b"})
    assert merged.json() == {"length": 3}
    assert (await client.get("/v1/users/b/history")).json()["length"] == 0
    assert (await service.recommend(user_id="a"))["history_length"] == 3
    assert (await service.recommend(user_id="b"))["source"] == "popular"
    put = await client.put("/v1/users/a/history", json={"items": [{"item_id": "item-9"}]})
    assert put.json() == {"length": 1}
    replaced, inline = [
        await service.recommend(**request)
        for request in ({"user_id": "a"}, {"history": ["item-9"]})
    ]
    assert ids(replaced) == ids(inline)
    for _ in range(2):
        assert (await client.delete("/v1/users/a/history")).status_code == 204
        assert (await service.recommend(user_id="a"))["source"] == "popular"


async def test_server_timing_names_the_stages(service: Live) -> None:
    response = await service.client.post("/recommend", json={"user_id": "u"})
    stages = {part.split(";")[0] for part in response.headers["server-timing"].split(", ")}
    assert stages == {"redis", "queue", "route", "encode", "score", "serialise"}
    assert response.headers["x-model-version"] == response.json()["model_version"]


def requests_of(generator: random.Random, manifest: Manifest, number: int) -> dict[str, Any]:
    """Return one request of the mix."""
    body: dict[str, Any] = {"k": generator.randint(1, 12)}
    kind = generator.choice(("user", "user", "nobody", "inline", "inline", "inline"))
    if kind == "inline":
        length = generator.randint(0, 30)
        body["history"] = [f"item-{generator.randint(1, 44)}" for _ in range(length)]
    else:
        body["user_id"] = f"u{number % 7}" if kind == "user" else f"nobody-{number}"
    name = generator.choice(manifest.submodels).name
    body["compute"] = generator.choice(
        (
            {},
            {},
            {"mode": "full"},
            {"mode": "fixed", "submodel": name},
            {"max_ratio": round(generator.random(), 2)},
        )
    )
    return body


async def ask_mix(service: Live, manifest: Manifest) -> list[dict[str, Any]]:
    """Send the mix, some alone, some in batches, eight at a time; return every answer."""
    generator = random.Random(7)
    for user in range(7):
        await service.tell(f"u{user}", *(f"item-{n}" for n in range(1, 2 + 4 * user)))
    left = [requests_of(generator, manifest, number) for number in range(REQUESTS)]
    return await send_mix(service, left, generator, batch=9, at_once=8)


async def test_flops_counters_equal_the_sum_over_the_answers(
    service: Live, manifest: Manifest
) -> None:
    """By part too: what each answer must have cost is computed anew from models.cost."""
    answers = await ask_mix(service, manifest)
    assert len(answers) == REQUESTS
    config = manifest.config
    memory = random_memory(config, 0)
    assert memory is not None
    sizes = (manifest.router.features, manifest.router.hidden, len(manifest.submodels))
    router = router_flops(*sizes, Surprise(memory).flops(NEWEST))
    spent: Counter[str] = Counter()
    baseline: Counter[str] = Counter()
    for answer in answers:
        compute = answer["compute"]
        if answer["source"] == "popular":
            assert (compute["flops"], compute["flops_full"]) == (0, 0)
            continue
        submodel = Submodel.parse(compute["submodel"])
        length = padded_length(answer["history_length"], config.max_length)
        routed = compute["reason"] in {"router", "max_ratio"}
        cost = Cost(
            router=router if routed else 0,
            encoder=encoder_flops(config, submodel, length),
            scoring=scoring_flops(config, submodel, memory.flops(config.max_length)),
        )
        full = full_cost(config, length, memory.flops(config.max_length))
        assert (compute["flops"], compute["flops_full"]) == (cost.total, full.total)
        for part in PARTS:
            spent[part] += getattr(cost, part)
            baseline[part] += getattr(full, part)
    for part in PARTS:
        assert service.metric("compute_flops_total", part=part) == spent[part]
        assert service.metric("compute_baseline_flops_total", part=part) == baseline[part]

    by_source = Counter(answer["source"] for answer in answers)
    for source, count in by_source.items():
        assert service.metric("recommendations_total", source=source, variant="stable") == count
    by_submodel = Counter(answer["compute"]["submodel"] for answer in answers)
    for name, count in by_submodel.items():
        if name is not None:
            assert service.metric("submodel_requests_total", submodel=name) == count
    reasons = Counter(answer["compute"]["reason"] for answer in answers)
    assert set(reasons) == {"router", "full", "fixed", "max_ratio", "no_history"}
    for reason in ("full", "fixed", "max_ratio"):
        assert service.metric("router_overrides_total", reason=reason) == reasons[reason]


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A store that this test may kill."""
    assert threading.current_thread() is threading.main_thread()
    with EmbeddedServer(tmp_path / "redis") as server:
        yield server


async def test_the_store_going_away_degrades_answers_and_refuses_events(
    root: Path, own_server: EmbeddedServer
) -> None:
    events = {"events": [{"user_id": "u", "item_id": "item-2", "timestamp": 1_700_000_100}]}
    async with live(root, own_server.url) as service:
        await service.tell("u", "item-1")
        before = await service.recommend(user_id="u")
        assert (before["source"], before["degraded"]) == ("model", [])

        own_server.stop()
        for _ in range(8):  # past the circuit breaker's threshold
            told = await service.recommend(user_id="u")
            assert (told["source"], told["degraded"]) == ("popular", ["redis_down"])
            assert ids(told)
            refused = await service.client.post("/v1/events", json=events)
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) >= 1
        assert service.metric("degraded_total", reason="redis_down") == 8
        inline = await service.recommend(history=["item-1"])
        assert (ids(inline), inline["degraded"]) == (ids(before), [])
        ready = await service.client.get("/readyz")
        assert ready.status_code == 200

        own_server.start()
        again: list[dict[str, Any]] = []
        for _ in range(200):
            again.append(await service.recommend(user_id="u"))
            if not again[-1]["degraded"]:
                break
            await asyncio.sleep(0.05)
        assert ids(again[-1]) == ids(before)
        assert (await service.client.post("/v1/events", json=events)).json()["accepted"] == 1
        await until(lambda: service.metric("redis_up") == 1)

"""Metrics exist from 0, cannot be flooded, and are all documented."""

from __future__ import annotations

import asyncio
import math
import random
import re
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, exposition
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from models.price_curve import CurvePoint
from service.engine.contract import PARTS, BatchTimings, Part, Work
from service.http.routing import ENDPOINTS
from service.metrics.exposition import exposed
from service.metrics.labels import METHODS
from service.metrics.metrics import Metrics
from service.metrics.plain import Counter, Histogram
from service.ulid import Ulids
from tests.service.everything import in_use
from tests.service.fakes import SMALL, FakeEngine, info, running
from training.refresh.metrics import RefreshMetrics

DOCS = Path(__file__).parent.parent.parent / "docs"


def series(registry: CollectorRegistry) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    return {
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in registry.collect()
        for sample in family.samples
    }


async def test_a_flood_of_paths_methods_users_and_scenarios_makes_no_new_series() -> None:
    generator, new_id = random.Random(3), Ulids()

    def word() -> str:
        return "".join(generator.choices("abcdefgh0123456789", k=12))

    async with running() as stack:

        async def flood(rounds: int) -> None:
            for _ in range(rounds):
                get = stack.client.get
                await stack.client.request(word().upper(), f"/{word()}")
                await stack.client.request(word().upper(), "/recommend")
                for endpoint in ENDPOINTS:
                    path = re.sub(r"\{.*?\}", word(), endpoint.path)
                    for method in METHODS:
                        await stack.client.request(method, path)
                await get(f"/{word()}?{word()}")
                await get(f"/v1/users/{word()}/history")
                await get(f"/v1/items/{word()}/similar")
                body = {"user_id": word(), "scenario": word()}
                await stack.client.post("/recommend", json=body)
                event = {"user_id": word(), "item_id": word(), "type": f"x{word()}"}
                named = {**event, "recommendation_id": new_id()}
                shown = {"user_id": word(), "type": "impression", "items": [word()]}
                events = {"events": [event, named, shown, {**named, "type": "click"}]}
                await stack.client.post("/v1/events", json=events)

        await flood(1)
        before = series(stack.app.state.services.metrics.registry)
        await flood(5)
        assert series(stack.app.state.services.metrics.registry) == before
        assert len(before) < 2000


async def test_requests_are_counted_by_template_and_status() -> None:
    async with running() as stack:
        for _ in range(3):
            await stack.client.get("/v1/users/a/history")
        await stack.client.get("/v1/users/b/history?limit=0")
        labels = {"method": "GET", "route": "/v1/users/{user_id:path}/history"}
        assert await stack.metric("canet_http_requests_total", **labels, status="200") == 3
        assert await stack.metric("canet_http_requests_total", **labels, status="422") == 1
        assert await stack.metric("canet_http_request_duration_seconds_count", **labels) == 4
        assert await stack.metric("canet_http_requests_in_flight") == 0
        await stack.client.head("/v1/users/a/history")
        await stack.client.options("/v1/users/a/history")
        assert await stack.metric("canet_http_requests_total", **labels, status="200") == 4
        unmatched = {"method": "OPTIONS", "route": "unmatched", "status": "204"}
        assert await stack.metric("canet_http_requests_total", **unmatched) == 1


def test_every_counter_and_histogram_exists_at_0_before_anything_happened() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.model_loaded(info(), loaded_at_unix=1.0)
    metrics.create_routes((endpoint.method, endpoint.path) for endpoint in ENDPOINTS)
    counting = [one for one in registry.collect() if one.type in {"counter", "histogram"}]
    assert len(counting) > 30
    for family in counting:
        assert family.samples, family.name
        assert {sample.value for sample in family.samples} == {0}, family.name
    for name, labels in (
        ("canet_submodel_requests_total", {"submodel": "d1-w16-e16"}),
        ("canet_redis_errors_total", {"op": "recent", "kind": "timeout"}),
        ("canet_events_total", {"type": "view", "result": "accepted"}),
    ):
        assert registry.get_sample_value(name, labels) == 0, name


async def test_both_formats_are_served_and_parse() -> None:
    async with running() as stack:
        await stack.client.post("/recommend", json={"history": ["i1"]})
        plain = await stack.client.get("/metrics")
        assert plain.headers["content-type"].startswith("text/plain")
        families = {family.name for family in text_string_to_metric_families(plain.text)}
        assert "canet_http_requests" in families
        accept = {"accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
        openmetrics = await stack.client.get("/metrics", headers=accept)
        assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
        assert openmetrics.text.endswith("# EOF\n")


async def test_a_new_model_replaces_the_info_and_keeps_the_counts() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.model_loaded(info("v1"), loaded_at_unix=1.0)
    metrics.model_loaded(info("v2"), loaded_at_unix=2.0)
    found = [labels for name, labels in series(registry) if name == "canet_model_info"]
    assert [dict(labels)["version"] for labels in found] == ["v2"]


def test_the_store_going_away_and_coming_back_moves_redis_up() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    for kind, up in ((None, 1), ("timeout", 0), ("response", 0), (None, 1), ("odd", 0)):
        metrics.store_observed("recent", 0.001, kind)
        assert registry.get_sample_value("canet_redis_up") == up
    labels = {"op": "recent", "kind": "other"}
    assert registry.get_sample_value("canet_redis_errors_total", labels) == 1


def test_metrics_are_documented_with_type_labels_meaning_and_an_example_and_no_others() -> None:
    registry = CollectorRegistry()
    exist: dict[str, tuple[str, list[str]]] = {}
    for told in (Metrics(registry), RefreshMetrics(registry)):
        for metric in vars(told).values():
            if isinstance(metric, MetricWrapperBase | Counter | Histogram):
                (family,) = metric.describe()
                name = family.name + ("_total" if family.type == "counter" else "")
                labels = (
                    metric._labelnames
                    if isinstance(metric, MetricWrapperBase)
                    else metric.label_names
                )
                exist[name] = (family.type, sorted(labels))
    assert {family.name for family in registry.collect()} == {
        name.removesuffix("_total") for name in exist
    }
    text = (DOCS / "metrics.md").read_text(encoding="utf-8")
    documented: dict[str, tuple[str, list[str]]] = {}
    for line in re.findall(r"^\| `canet_\w+`.*$", text, flags=re.MULTILINE):
        name, kind, meaning, example = [cell.strip() for cell in line.strip("|").split(" | ")]
        kind, _, labels = kind.partition(": ")
        documented[name.strip("`")] = (kind, sorted(labels.split(", ")) if labels else [])
        assert meaning.endswith("."), name
        assert re.search(r"canet_\w+", example), name
    assert documented == exist


async def test_an_answer_that_came_too_late_is_spent_but_not_saved() -> None:
    gate = threading.Event()
    async with running(engine=FakeEngine(gate=gate), deadline_ms=50) as stack:
        answer = (await stack.client.post("/recommend", json={"history": ["i1"]})).json()
        assert answer["degraded"] == ["deadline"]
        gate.set()
        async with asyncio.timeout(30):
            while True:
                if await stack.metric("canet_batch_size_count"):
                    break
                await asyncio.sleep(0.01)
        spent = await stack.metric("canet_compute_flops_total", part="encoder")
        assert spent == 10
        for name in ("compute_baseline_flops", "inference_baseline_cpu_seconds"):
            for part in PARTS:
                assert await stack.metric(f"canet_{name}_total", part=part) == 0


def test_a_shadow_costs_time_but_is_neither_spent_nor_saved() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.model_loaded(info(), loaded_at_unix=1.0, variant="shadow")
    work: dict[tuple[str, Part], Work] = {(SMALL.name, "encoder"): Work(flops=30, cpu_seconds=0.5)}
    metrics.batch_done([0.0], BatchTimings(work=work), "shadow")
    part = {"part": "encoder"}
    assert registry.get_sample_value("canet_compute_flops_total", part) == 0
    shadow = {"variant": "shadow", "submodel": SMALL.name}
    assert registry.get_sample_value("canet_inference_flops_total", shadow) == 30
    labels = {"variant": "shadow", "submodel": SMALL.name, **part}
    assert registry.get_sample_value("canet_inference_cpu_seconds_total", labels) == 0.5


def test_with_everything_in_use_there_are_at_most_2000_series() -> None:
    assert len(series(in_use())) <= 2000


async def test_the_text_written_in_pieces_is_the_librarys_own_and_small() -> None:
    registry = CollectorRegistry()
    Metrics(registry).create_routes((endpoint.method, endpoint.path) for endpoint in ENDPOINTS)
    plain, kind = await exposed(registry, "text/plain")
    assert (plain, kind) == (
        exposition.generate_latest(registry),
        exposition.CONTENT_TYPE_LATEST,
    )
    found, kind = await exposed(registry, "application/openmetrics-text;version=1.0.0")
    assert found == openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
    assert kind == openmetrics.CONTENT_TYPE_LATEST
    whole, _ = await exposed(in_use(), "text/plain")
    assert len(whole) < 250_000


async def test_requests_are_answered_while_a_scrape_is_written() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(others())
    await exposed(in_use(), "text/plain")
    task.cancel()
    assert turns > 30


def test_the_budget_follows_the_price_and_the_curve_of_the_model_that_serves() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)

    def budget() -> float:
        found = registry.get_sample_value("canet_compute_budget_ratio")
        assert found is not None
        return found

    assert math.isnan(budget())
    curve = (CurvePoint(0.1, 0.8), CurvePoint(0.3, 0.2))
    metrics.model_loaded(replace(info(), price_curve=curve), loaded_at_unix=1.0)
    for price, share in ((0.0, 0.8), (0.1, 0.8), (0.2, 0.4), (0.3, 0.2), (9.0, 0.2)):
        metrics.overload_stepped(price, "set", 0.0, 10)
        assert budget() == pytest.approx(share)
    metrics.model_loaded(info("v2"), loaded_at_unix=2.0)
    assert math.isnan(budget()), "a model without a curve"


async def test_popular_answers_are_counted_by_why() -> None:
    async with running(deadline_ms=5000) as stack:
        await stack.client.post("/recommend", json={"user_id": "nobody"})
        stack.store.away = True
        await stack.client.post("/recommend", json={"user_id": "nobody"})
        for reason, count in (("no_history", 1), ("redis_down", 1), ("deadline", 0)):
            name = "canet_popular_answers_total"
            assert await stack.metric(name, reason=reason) == count, reason


async def test_serialising_is_a_stage_of_single_and_batched_answers() -> None:
    async with running() as stack:
        body = {"history": ["i1"]}
        await stack.client.post("/recommend", json=body)
        await stack.client.post("/v1/recommend/batch", json={"requests": [body]})
        for stage in ("queue", "route", "encode", "score", "serialise"):
            name = "canet_stage_duration_seconds_count"
            assert await stack.metric(name, stage=stage) == 2, stage

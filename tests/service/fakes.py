"""Tiny working engine, store and manager: real answers from a dozen lines, faults on demand."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from service.app import create_app
from service.engine.contract import (
    AS_PUBLISHED,
    EVERY_SUBMODEL,
    NOTHING_BLOCKED,
    PARTS,
    BatchTimings,
    Blocked,
    Engine,
    Flops,
    ModelInfo,
    Part,
    Price,
    Query,
    RankedItem,
    Ranking,
    SubmodelInfo,
    UnknownFieldError,
    UnknownItemError,
    UnknownSubmodelError,
    Work,
)
from service.lifecycle.contract import ModelObserver, ReloadBusyError, ReloadRefusedError
from service.settings import Settings
from service.store.contract import HistoryStore
from tests.service.fake_store import FakeStore

CATALOG = tuple(f"i{number}" for number in range(1, 101))
SMALL = SubmodelInfo(name="d1-w16-e16", depth=1, width=16, emb_width=16, flops=10, flops_ratio=0.1)
FULL = SubmodelInfo(name="d2-w32-e32", depth=2, width=32, emb_width=32, flops=100, flops_ratio=1.0)


def info(version: str = "v1") -> ModelInfo:
    return ModelInfo(
        version=version,
        digest=f"digest-{version}",
        created_at="2026-09-01T03:00:00Z",
        trained_at_unix=1_788_231_600.0,
        num_items=len(CATALOG),
        max_length=50,
        price=0.1,
        submodels=(SMALL, FULL),
        filterable_fields=("genres",),
        offline_metrics={"ndcg@10": 0.1},
    )


def work_of(rankings: Sequence[Ranking]) -> dict[tuple[str, Part], Work]:
    """What the rankings were charged; a quarter of a CPU second per key."""
    flops: Counter[tuple[str, Part]] = Counter()
    for ranking in rankings:
        for part in PARTS:
            name = EVERY_SUBMODEL if part == "router" else ranking.submodel
            if name is not None:
                flops[name, part] += getattr(ranking.flops, part)
    return {key: Work(flops=count, cpu_seconds=0.25) for key, count in flops.items()}


class FakeEngine:
    """Recommends the items after the last known one; FLOPs depend on the history's length.

    A query whose candidates hold "poison" raises; `gate`, when given, holds every batch up.
    """

    def __init__(self, version: str = "v1", *, gate: threading.Event | None = None) -> None:
        self._info = info(version)
        self.gate = gate
        self.batches: list[int] = []
        self.entered = threading.Event()

    @property
    def info(self) -> ModelInfo:
        return self._info

    def check(self, query: Query) -> None:
        if query.compute.submodel not in {None, SMALL.name, FULL.name}:
            raise UnknownSubmodelError("secret internals")
        if query.filter is not None:
            for clause in (*query.filter.must, *query.filter.must_not):
                if clause.field not in self._info.filterable_fields:
                    raise UnknownFieldError("secret internals")

    def recommend(
        self, queries: Sequence[Query], price: Price = AS_PUBLISHED
    ) -> tuple[list[Ranking], BatchTimings]:
        self.batches.append(len(queries))
        self.entered.set()
        if self.gate is not None:
            assert self.gate.wait(10)
        if any("poison" in (query.candidates or ()) for query in queries):
            raise RuntimeError("secret internals of the engine")
        rankings = [self._rank(query, price) for query in queries]
        timings = BatchTimings(
            route_seconds=0.001,
            encode_seconds=0.002,
            score_seconds=0.003,
            work=work_of(rankings),
            full_cpu_per_flop={"encoder": 0.5, "scoring": 0.25},
        )
        return rankings, timings

    def popular(self, query: Query) -> Ranking:
        items, missing = self._eligible(query, CATALOG)
        return Ranking(
            items=items,
            source="popular",
            model_version=self._info.version,
            reason="no_history",
            missing_items=missing,
            short_list=len(items) < query.k,
        )

    def similar(
        self, external_id: str, k: int, blocked: Blocked = NOTHING_BLOCKED
    ) -> list[RankedItem]:
        if external_id not in CATALOG and "/" not in external_id:
            raise UnknownItemError(external_id)
        names = [name for name in CATALOG if name not in blocked.external_ids]
        return [RankedItem(external_id=name, score=0.5) for name in names[:k]]

    def attributes(self, external_id: str) -> Mapping[str, Any]:
        return {"title": f"Title of {external_id}"}

    def _rank(self, query: Query, price: Price) -> Ranking:
        known = [name for name in query.history if name in CATALOG]
        if not known:
            return self.popular(query)
        start = CATALOG.index(known[-1]) + 1
        items, missing = self._eligible(query, (*CATALOG[start:], *CATALOG[:start]))
        submodel = FULL if query.compute.mode == "full" or len(known) > 5 else SMALL
        reason = "full" if query.compute.mode == "full" else "router"
        if submodel is FULL and reason == "router" and price.surcharge > 1:
            submodel, reason = SMALL, "overload"
        return Ranking(
            items=items,
            source="model",
            model_version=self._info.version,
            submodel=submodel.name,
            flops=Flops(router=len(known), encoder=submodel.flops * len(known), scoring=7),
            flops_full=Flops(encoder=FULL.flops * len(known), scoring=11),
            reason=reason,
            history_length=len(known),
            missing_items=missing,
            short_list=len(items) < query.k,
        )

    def _eligible(
        self, query: Query, order: Sequence[str]
    ) -> tuple[tuple[RankedItem, ...], tuple[str, ...]]:
        barred = {*query.exclude_items, *query.blocked.external_ids}
        barred |= set(query.history) if query.exclude_seen else set()
        asked = (*query.history, *query.exclude_items, *(query.candidates or ()))
        names = [
            name
            for name in order
            if name not in barred and (query.candidates is None or name in query.candidates)
        ]
        items = tuple(
            RankedItem(external_id=name, score=1.0 / place)
            for place, name in enumerate(names[: query.k], start=1)
        )
        return items, tuple(name for name in asked if name not in CATALOG)


class SlowEngine(FakeEngine):
    """Takes real time for every query, `full_seconds` on the full network, half on the small."""

    def __init__(self, full_seconds: float) -> None:
        super().__init__()
        self._full_seconds = full_seconds

    def recommend(
        self, queries: Sequence[Query], price: Price = AS_PUBLISHED
    ) -> tuple[list[Ranking], BatchTimings]:
        rankings, timings = super().recommend(queries, price)
        shares = [1.0 if ranking.submodel == FULL.name else 0.5 for ranking in rankings]
        seconds = sum(shares) * self._full_seconds
        time.sleep(seconds)
        return rankings, replace(timings, encode_seconds=seconds)


class FakeManager:
    """Serves what it is given; reloads to any version but "bad" and "busy"."""

    def __init__(self, engine: Engine | None) -> None:
        self.engine = engine
        self.previous: Engine | None = None
        self.observer: ModelObserver | None = None
        self.stopped = False
        self.problem: str | None = None
        self.fallback = False

    def current(self) -> Engine | None:
        return self.engine

    async def start(self) -> None:
        if self.engine is not None and self.observer is not None:
            self.observer.model_loaded(self.engine.info, loaded_at_unix=time.time())
            self.observer.reload_finished("loaded")

    async def stop(self) -> None:
        self.stopped = True

    async def reload(self, version: str | None) -> ModelInfo:
        if version == "bad":
            raise ReloadRefusedError("bad: the checksum of model.safetensors is wrong")
        if version == "busy":
            raise ReloadBusyError
        self.previous, self.engine = self.engine, FakeEngine(version or "v2")
        await self.start()
        return self.engine.info

    async def promote(self, version: str) -> ModelInfo:
        return await self.reload(version)

    async def rollback(self) -> ModelInfo:
        if self.previous is None:
            raise ReloadRefusedError("there is no earlier version")
        self.engine = self.previous
        await self.start()
        return self.engine.info


class Stack:
    """One running app with its fakes and a client."""

    def __init__(
        self, app: FastAPI, client: httpx.AsyncClient, store: FakeStore, manager: FakeManager
    ) -> None:
        self.app = app
        self.client = client
        self.store = store
        self.manager = manager

    async def metric(self, name: str, **labels: str) -> float | None:
        found: float | None = self.app.state.services.metrics.registry.get_sample_value(
            name, labels
        )
        return found


@asynccontextmanager
async def running(
    settings: Settings | None = None, engine: FakeEngine | None = None, **changes: Any
) -> AsyncIterator[Stack]:
    """Yield a started app; `changes` are settings. `engine` None with `no_model` means none."""
    no_model = changes.pop("no_model", False)
    store = FakeStore()
    manager = FakeManager(None if no_model else engine or FakeEngine())
    if settings is None:
        plain = {"deadline_ms": 5000, "objective_ms": 60_000, "result_ttl": 0}
        settings = Settings.model_validate({**plain, **changes})
    typed: HistoryStore = store
    app = create_app(settings, store=typed, models=manager, registry=CollectorRegistry())
    manager.observer = app.state.services.metrics
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            await client.get("/healthz")
            yield Stack(app, client, store, manager)


def with_history(query: Query, *items: str) -> Query:
    return replace(query, history=items)

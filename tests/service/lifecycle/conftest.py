"""Real checkpoints on disk, and a tiny engine that answers from what they hold."""

from __future__ import annotations

import runpy
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from models.checkpoint.contents import Checkpoint
from models.checkpoint.read import read_checkpoint
from service.engine.contract import (
    AS_PUBLISHED,
    NOTHING_BLOCKED,
    BatchTimings,
    Blocked,
    Engine,
    ModelInfo,
    Price,
    Query,
    RankedItem,
    Ranking,
    SubmodelInfo,
)
from service.lifecycle.contract import ReloadResult, Variant
from service.lifecycle.manager import CheckpointManager

TINY = Path(__file__).parents[2] / "models" / "checkpoint" / "conftest.py"


class FakeEngine:
    """Answers golden queries as written down, others by popularity; counts what it ran."""

    def __init__(self, checkpoint: Checkpoint, change: Callable[[Ranking], Ranking]) -> None:
        manifest = checkpoint.manifest
        self._change = change
        self._golden = {(golden.history, golden.submodel): golden for golden in checkpoint.golden}
        self._ids = checkpoint.catalog.external_ids
        self.batches: list[tuple[str | None, int]] = []
        self.lengths: set[int] = set()
        self._info = ModelInfo(
            version=manifest.version,
            digest=checkpoint.digest,
            created_at=manifest.created_at,
            trained_at_unix=0.0,
            num_items=len(self._ids),
            max_length=checkpoint.config.max_length,
            price=manifest.router.price,
            submodels=tuple(
                SubmodelInfo(
                    name=entry.name,
                    depth=1,
                    width=4,
                    emb_width=4,
                    flops=entry.flops,
                    flops_ratio=entry.flops_ratio,
                )
                for entry in manifest.submodels
            ),
            filterable_fields=(),
            offline_metrics=manifest.metrics,
        )

    @property
    def info(self) -> ModelInfo:
        return self._info

    def check(self, query: Query) -> None:
        return None

    def recommend(
        self, queries: Sequence[Query], price: Price = AS_PUBLISHED
    ) -> tuple[list[Ranking], BatchTimings]:
        self.batches.append((queries[0].compute.submodel, len(queries)))
        self.lengths |= {len(query.history) for query in queries}
        return [self._change(self._answer(query)) for query in queries], BatchTimings()

    def _answer(self, query: Query) -> Ranking:
        golden = self._golden.get((query.history, query.compute.submodel or ""))
        pairs = (
            zip(golden.items, golden.scores, strict=True)
            if golden is not None
            else zip(self._ids, range(0, -len(self._ids), -1), strict=True)
        )
        return Ranking(
            items=tuple(RankedItem(external_id=one, score=score) for one, score in pairs)[
                : query.k
            ],
            source="model",
            model_version=self._info.version,
            submodel=query.compute.submodel or "d1-w4-e4",
        )

    def popular(self, query: Query) -> Ranking:
        raise AssertionError("a trial asks for no popular items")

    def similar(
        self, external_id: str, k: int, blocked: Blocked = NOTHING_BLOCKED
    ) -> list[RankedItem]:
        raise AssertionError("a trial asks for no similar items")

    def attributes(self, external_id: str) -> Mapping[str, Any]:
        return {}


@dataclass(slots=True)
class Loads:
    """A loader whose engines can be made to fail, and which can be held up."""

    paths: list[Path] = field(default_factory=list)
    engines: list[FakeEngine] = field(default_factory=list)
    change: Callable[[Ranking], Ranking] = lambda ranking: ranking
    error: Exception | None = None
    started: threading.Event = field(default_factory=threading.Event)
    gate: threading.Event = field(default_factory=threading.Event)

    def __call__(self, path: Path) -> Engine:
        self.paths.append(path)
        self.started.set()
        assert self.gate.wait(30)
        if self.error is not None:
            raise self.error
        self.engines.append(FakeEngine(read_checkpoint(path), self.change))
        return self.engines[-1]


@dataclass(slots=True)
class Observed:
    """An observer that writes down what it was told."""

    loaded: list[str] = field(default_factory=list)
    results: list[ReloadResult] = field(default_factory=list)
    serving: dict[Variant, str] = field(default_factory=dict)
    fallbacks: list[bool] = field(default_factory=list)

    def model_loaded(
        self, info: ModelInfo, *, loaded_at_unix: float, variant: Variant = "stable"
    ) -> None:
        assert loaded_at_unix > 0
        self.loaded.append(info.version)
        self.serving[variant] = info.version

    def model_unloaded(self, variant: Variant) -> None:
        del self.serving[variant]

    def fallback(self, on: bool) -> None:
        if self.fallbacks[-1:] != [on]:
            self.fallbacks.append(on)

    def reload_finished(self, result: ReloadResult) -> None:
        self.results.append(result)


@pytest.fixture
def loads() -> Iterator[Loads]:
    loads = Loads()
    loads.gate.set()
    yield loads
    loads.gate.set()


@pytest.fixture
def observed() -> Observed:
    return Observed()


@pytest.fixture(scope="session")
def publish() -> Callable[..., str]:
    """Publish a small real checkpoint under a root and return its version."""
    publish: Callable[..., str] = runpy.run_path(str(TINY))["Tiny"]().publish
    return publish


@pytest.fixture
def moves() -> list[str]:
    """Versions that a manager made CURRENT name."""
    return []


@pytest.fixture
async def make(
    tmp_path: Path, loads: Loads, observed: Observed, moves: list[str]
) -> AsyncIterator[Callable[..., CheckpointManager]]:
    managers: list[CheckpointManager] = []

    def make(
        *, pinned: str | None = None, poll: float = 0.01, retry: float = 30
    ) -> CheckpointManager:
        managers.append(
            CheckpointManager(
                tmp_path,
                loads,
                observer=observed,
                poll_seconds=poll,
                max_batch=6,
                pinned=pinned,
                retry_seconds=retry,
                moved=moves.append,
            )
        )
        return managers[-1]

    yield make
    for manager in managers:
        await manager.stop()

"""One training run from a file of interactions to a published checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from training.data.columns import ColumnNames
from training.data.profile import DataProfile, profile
from training.data.reading import make_split, read
from training.evaluate.evaluation import Evaluation, evaluate
from training.fit.allocator import tame_allocator
from training.fit.loop import fit, sample_cases
from training.fit.presets import Preset, choose_preset
from training.progress import Progress
from training.publish.publish import publish
from training.publish.route import route

_ROUTER_CASES = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """What one run is asked for. None leaves a choice to the data or the preset.

    `budget` is a share of the full network's total FLOPs; without one the default price is the
    one that keeps validation NDCG@10 within half a percent of the full network. `exclude_seen`
    defaults to whether users (almost) never repeat an item.
    """

    data: Path
    out: Path
    items: Path | None = None
    columns: ColumnNames | None = None
    strict: bool = False
    split: str = "leave-one-out"
    preset: str | None = None
    seed: int = 0
    epochs: int | None = None
    max_seconds: float | None = None
    budget: float | None = None
    exclude_seen: bool | None = None
    threads: int | None = None
    resume: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What one run made. `seconds` is wall time of the whole run."""

    version: str
    path: Path
    preset: str
    price: float
    epochs: int
    best_epoch: int
    stopped: str
    seconds: float
    evaluation: Evaluation


def train(
    request: TrainRequest,
    progress: Progress,
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainResult:
    """Read, split, fit, route, test once and publish; CURRENT names the new version afterwards.

    Once `should_stop` says True, fitting ends and the best so far is published.

    Raises DataError (bad data), ValueError (bad request), CheckpointError (cannot publish).
    """
    began = time.monotonic()
    tame_allocator()
    interactions = read(request.data, request.columns, strict=request.strict, progress=progress)
    split = make_split(interactions, request.split, items=request.items)
    found = profile(interactions)
    progress.log(found.summary())
    exclude_seen = found.exclude_seen if request.exclude_seen is None else request.exclude_seen
    preset = _preset(request, found, len(split.catalog))
    progress.log(preset.summary())
    progress.log(
        "seen items are "
        + ("left out of every ranking" if exclude_seen else "kept: users repeat items here")
    )
    if preset.train.threads is not None:
        torch.set_num_threads(preset.train.threads)
    fitted = fit(
        split,
        preset.supernet,
        preset.train,
        exclude_seen=exclude_seen,
        progress=progress,
        resume_root=request.out if request.resume else None,
        data_digest=interactions.digest,
        should_stop=should_stop,
    )
    routed = route(
        fitted,
        sample_cases(split.validation, _ROUTER_CASES, request.seed),
        budget=request.budget,
        exclude_seen=exclude_seen,
        seed=request.seed,
        progress=progress,
    )
    evaluation = evaluate(
        routed.ranker,
        split,
        split.open_test(),
        price=routed.price,
        validation_ndcg_S=routed.validation_ndcg_S,
        exclude_seen=exclude_seen,
        seed=request.seed,
        progress=progress,
    )
    seconds = time.monotonic() - began
    facts = {
        "preset": preset.name,
        "seconds": round(seconds, 1),
        "epochs": len(fitted.epochs),
        "best_epoch": fitted.best_epoch + 1,
        "stopped": fitted.stopped,
        "rows": len(interactions),
        "data_digest": interactions.digest,
        "split": split.description,
        "config": preset.train.to_json(),
    }
    version = publish(
        request.out,
        interactions=interactions,
        split=split,
        fitted=fitted,
        routed=routed,
        evaluation=evaluation,
        training=facts,
        repeats=not exclude_seen,
    )
    if fitted.resume is not None:
        fitted.resume.clear()
    return TrainResult(
        version=version,
        path=request.out / version,
        preset=preset.name,
        price=routed.price,
        epochs=len(fitted.epochs),
        best_epoch=fitted.best_epoch + 1,
        stopped=fitted.stopped,
        seconds=seconds,
        evaluation=evaluation,
    )


def _preset(request: TrainRequest, found: DataProfile, num_items: int) -> Preset:
    preset = choose_preset(found, num_items=num_items, name=request.preset, seed=request.seed)
    changes: dict[str, Any] = {}
    if request.epochs is not None:
        changes["epochs"] = request.epochs
    if request.max_seconds is not None:
        changes["max_seconds"] = request.max_seconds
    if request.threads is not None:
        changes["threads"] = request.threads
    return replace(preset, train=replace(preset.train, **changes))

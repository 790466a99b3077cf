"""One training run from a file of interactions to a published checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from models.checkpoint.contents import Checkpoint
from models.checkpoint.elastic import ElasticEntry
from training.canet.config import CanetConfig
from training.canet.route import route_joint
from training.canet.step import CanetStep
from training.data.interactions import Interactions
from training.data.profile import profile
from training.data.reading import make_split, read
from training.data.split import EvalCases, Split
from training.elastic import run as elastic
from training.evaluate.evaluation import Evaluation, evaluate
from training.evaluate.price_points import spread_prices
from training.fit.allocator import tame_allocator
from training.fit.cases import sample_cases
from training.fit.closing import close, weigh_memory
from training.fit.fitted import Fitted
from training.fit.loop import fit
from training.fit.presets import Preset
from training.fit.step import MakeStep
from training.plan import TrainPlan, TrainRequest, canet_of, preset_of
from training.progress import Progress
from training.publish.lessons import choose_served, in_cost_order, lessons_of
from training.publish.publish import publish
from training.publish.route import Routed, route
from training.sparse.pack import packed
from training.start import counts, for_head, from_parent, with_table_of

_ROUTER_CASES = 20_000
_LESSONS = 40_000
_GAIN_CASES = 3_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A model that was trained, routed and tested, and is not published."""

    interactions: Interactions
    split: Split
    preset: Preset
    fitted: Fitted
    routed: Routed
    evaluation: Evaluation
    exclude_seen: bool
    warm: bool
    canet: CanetConfig | None = None
    """Where the published method trained it."""
    elastic: ElasticEntry | None = None
    """How the item table may be narrowed, where it was trained for that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What one run made. `seconds` is wall time, with the epochs of processes that were killed."""

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
    interactions = read(request.data, request.columns, strict=request.strict, progress=progress)
    trained = build(request, interactions, progress, should_stop)
    fitted = trained.fitted
    before = sum(epoch.seconds for epoch in fitted.epochs[: fitted.resumed])
    seconds = before + time.monotonic() - began
    version = publish_trained(request.out, trained, seconds=seconds)
    return result_of(request.out / version, trained, seconds=seconds)


def build(
    plan: TrainPlan,
    interactions: Interactions,
    progress: Progress,
    should_stop: Callable[[], bool] = lambda: False,
    *,
    parent: Checkpoint | None = None,
) -> Trained:
    """Return a model that was fitted, routed and tested once; nothing is published.

    With a `parent` training starts from its weights, in its architecture, unless the plan names
    a preset, a backbone or a layer sharing of another one, or it knows too few of the items; it is
    not resumed then. Items keep the parent's attributes where the plan names no file of them.

    Raises DataError or ValueError, as `train`.
    """
    canet = canet_of(plan)
    if canet is not None and parent is not None:
        raise ValueError("method canet starts afresh; refresh with method supernet")
    tame_allocator()
    split = make_split(
        interactions,
        plan.split,
        items=plan.items,
        known=None if parent is None else parent.catalog,
    )
    found = profile(interactions)
    progress.log(found.summary())
    exclude_seen = found.exclude_seen if plan.exclude_seen is None else plan.exclude_seen
    preset = preset_of(plan, found, len(split.catalog))
    initial = None
    if parent is not None:
        preset, initial = from_parent(plan, preset, parent, split, progress)
    if initial is None:
        preset = replace(preset, supernet=with_table_of(preset.supernet, plan, split))
    preset = for_head(preset)
    progress.log(preset.summary())
    progress.log(
        "seen items are "
        + ("left out of every ranking" if exclude_seen else "kept: users repeat items here")
    )
    if preset.train.threads is not None:
        torch.set_num_threads(preset.train.threads)
    make_step: MakeStep
    if canet is not None:
        make_step = partial(CanetStep, canet)
    else:
        make_step = elastic.make_step(
            plan.elastic,
            preset.supernet,
            preset.train.sparse,
            parent if initial is not None else None,
        )
    fitted = fit(
        split,
        preset.supernet,
        preset.train,
        exclude_seen=exclude_seen,
        progress=progress,
        resume_root=plan.out if plan.resume and initial is None else None,
        data_digest=interactions.digest,
        should_stop=should_stop,
        initial=initial,
        make_step=make_step,
    )
    cases = sample_cases(split.validation, _ROUTER_CASES, plan.seed)
    if canet is not None:
        routed = route_joint(
            fitted, cases, budget=plan.budget, exclude_seen=exclude_seen, progress=progress
        )
    else:
        fitted, routed = _route(
            plan, preset, fitted, split, cases, exclude_seen, progress, should_stop
        )
    evaluation = evaluate(
        routed.ranker,
        split,
        split.open_test(),
        price=routed.price,
        prices=spread_prices(routed.points),
        validation_ndcg_S=routed.validation_ndcg,
        exclude_seen=exclude_seen,
        seed=plan.seed,
        progress=progress,
    )
    return Trained(
        interactions=interactions,
        split=split,
        preset=preset,
        fitted=fitted,
        routed=routed,
        evaluation=evaluation,
        exclude_seen=exclude_seen,
        warm=initial is not None,
        canet=canet,
        elastic=elastic.measured(
            routed,
            fitted,
            cases,
            counts(split, preset.supernet),
            exclude_seen=exclude_seen,
            seed=plan.seed,
            progress=progress,
        ),
    )


def _route(
    plan: TrainPlan,
    preset: Preset,
    fitted: Fitted,
    split: Split,
    cases: EvalCases,
    exclude_seen: bool,
    progress: Progress,
    should_stop: Callable[[], bool],
) -> tuple[Fitted, Routed]:
    """Weigh the memory, pick what is served, close, and fit the router."""
    weigh_memory(
        fitted, preset.train, sample_cases(cases, _GAIN_CASES, plan.seed), exclude_seen, progress
    )
    served = choose_served(fitted, cases, exclude_seen=exclude_seen, progress=progress)
    lessons = lessons_of(
        fitted,
        split,
        served,
        most=_LESSONS,
        exclude_seen=exclude_seen,
        seed=plan.seed,
        progress=progress,
    )
    if lessons is not None and not should_stop():
        fitted = close(
            fitted,
            split,
            preset.train,
            exclude_seen,
            progress,
            should_stop,
            elastic.same_step(fitted),
        )
        weigh_memory(fitted, preset.train, cases, exclude_seen, progress, served)
    sparse = preset.train.sparse
    if sparse is not None and sparse.masks and sparse.granularity == "unit":
        fitted = replace(fitted, supernet=packed(fitted.supernet, sparse.row_blocks))
    served, lessons = in_cost_order(fitted, served, lessons)
    routed = route(
        fitted,
        cases,
        served=served,
        lessons=lessons,
        budget=plan.budget,
        exclude_seen=exclude_seen,
        seed=plan.seed,
        progress=progress,
        reads_table=fitted.calibration is None,
    )
    return fitted, routed


def publish_trained(
    root: Path, trained: Trained, *, seconds: float, make_current: bool = True
) -> str:
    """Write the checkpoint and return its version; `seconds` is what making it took.

    CURRENT names it if `make_current`. Raises CheckpointError.
    """
    fitted = trained.fitted
    version = publish(
        root,
        interactions=trained.interactions,
        split=trained.split,
        fitted=fitted,
        routed=trained.routed,
        evaluation=trained.evaluation,
        training={
            "method": "supernet" if trained.canet is None else "canet",
            **({} if trained.canet is None else {"canet": trained.canet.to_json()}),
            "preset": trained.preset.name,
            "seconds": round(seconds, 1),
            "epochs": len(fitted.epochs),
            "best_epoch": fitted.best_epoch + 1,
            "stopped": fitted.stopped,
            "warm": trained.warm,
            "rows": len(trained.interactions),
            "data_digest": trained.interactions.digest,
            "split": trained.split.description,
            "config": trained.preset.train.to_json(),
            **elastic.told(fitted),
        },
        repeats=not trained.exclude_seen,
        make_current=make_current,
        elastic=trained.elastic,
    )
    if fitted.resume is not None:
        fitted.resume.clear()
    return version


def result_of(path: Path, trained: Trained, *, seconds: float) -> TrainResult:
    """Return the summary of a published model."""
    return TrainResult(
        version=path.name,
        path=path,
        preset=trained.preset.name,
        price=trained.routed.price,
        epochs=len(trained.fitted.epochs),
        best_epoch=trained.fitted.best_epoch + 1,
        stopped=trained.fitted.stopped,
        seconds=seconds,
        evaluation=trained.evaluation,
    )

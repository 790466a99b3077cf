"""An elastic table within one training run: asked for, continued from a parent, measured."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.checkpoint.contents import Checkpoint
from models.checkpoint.elastic import ElasticEntry
from models.config import SupernetConfig
from training.data.split import EvalCases
from training.elastic.config import ElasticConfig, ElasticPlan
from training.elastic.measure import measure
from training.elastic.narrow import Calibration
from training.elastic.step import ElasticStep
from training.fit.fitted import Fitted
from training.fit.sandwich import SandwichStep
from training.fit.step import MakeStep
from training.progress import Progress
from training.publish.route import Routed
from training.sparse.config import SparseConfig


def make_step(
    plan: ElasticPlan | None,
    grid: SupernetConfig,
    sparse: SparseConfig | None,
    parent: Checkpoint | None,
) -> MakeStep:
    """Return what makes the steps of method supernet, with an elastic table if `plan` asks for it.

    The scales and biases of a parent with as many groups, the same widths and as many blocks are
    trained on.
    ValueError when the plan does not fit the architecture or the sparse training, or the parent's
    rows were narrowed.
    """
    if plan is None:
        return SandwichStep
    if sparse is not None and sparse.masks and sparse.granularity == "unit":
        raise ValueError(
            "sparse training by units narrows the item table itself, which an elastic one must "
            "not be; leave either --elastic or --sparse unit (preset compact) out"
        )
    done = None if parent is None else parent.manifest.specialized
    if done is not None:
        raise ValueError(
            f"the live model was specialised from {done.source}: its rows are narrow and cannot be "
            f"elastic again; refresh the root that holds {done.source} and specialise what comes "
            "of it, or leave --elastic out"
        )
    elastic = ElasticConfig.of(plan, num_items=grid.num_items, emb_widths=grid.emb_widths)
    entry = None if parent is None else parent.manifest.elastic
    initial = None if entry is None else _calibration(entry, elastic)
    return partial(ElasticStep, elastic, initial=initial)


def same_step(fitted: Fitted) -> MakeStep:
    """Return what makes the steps that go on with a trained model."""
    made = fitted.calibration
    return SandwichStep if made is None else partial(ElasticStep, made.elastic, initial=made)


def measured(
    routed: Routed,
    fitted: Fitted,
    cases: EvalCases,
    traffic_V: NDArray[np.int64],
    *,
    exclude_seen: bool,
    seed: int,
    progress: Progress,
) -> ElasticEntry | None:
    """Return what a checkpoint says of its elastic table, None where it has none."""
    if fitted.calibration is None:
        return None
    return measure(
        routed,
        fitted.calibration,
        cases,
        traffic_V,
        exclude_seen=exclude_seen,
        seed=seed,
        progress=progress,
    )


def told(fitted: Fitted) -> dict[str, Any]:
    """Return what a manifest's `training` says of column blocks; nothing where there are none."""
    made = None if fitted.calibration is None else fitted.calibration.elastic
    if made is None or made.blocks is None:
        return {}
    return {"elastic": {"blocks": made.blocks, "diversity": made.diversity}}


def _calibration(entry: ElasticEntry, elastic: ElasticConfig) -> Calibration | None:
    """Return a parent's scales and biases; None where groups, widths or blocks are others."""
    before = len(entry.stops), entry.widths, entry.blocks
    if before != (len(elastic.stops), elastic.widths, elastic.blocks):
        return None
    calibration = Calibration(elastic)
    calibration.load_state_dict(
        {
            "scale": torch.tensor(entry.scale)[:, :-1],
            "bias": torch.tensor(entry.bias)[:, :-1],
            "turn_EE": calibration.turn_EE,
        }
    )
    return calibration

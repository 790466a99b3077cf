"""What a training run starts from: an architecture with its table, and a parent's weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from models.checkpoint.contents import Checkpoint
from models.config import SupernetConfig
from training.data.split import Split
from training.fit.presets import Preset
from training.fit.table_plan import with_table
from training.fit.warm import warm_start
from training.plan import TrainPlan, beside_parent
from training.progress import Progress
from training.sparse.inherit import inherited

# A parent that knows fewer of the items has little to hand on.
_LEAST_KEPT = 0.1


def with_table_of(grid: SupernetConfig, plan: TrainPlan, split: Split) -> SupernetConfig:
    """Return the architecture with the table and head that the plan asks for."""
    return with_table(grid, plan.table, counts(split, grid), plan.head)


def for_head(preset: Preset) -> Preset:
    """Return the preset as its head is trained: two levels learn without the transition memory.

    With it, the sum over a tail block would have to be taken for every position, which two levels
    save; so the memory joins afterwards.
    """
    if not preset.supernet.two_level:
        return preset
    return replace(preset, train=replace(preset.train, memory_joins="afterwards"))


def counts(split: Split, grid: SupernetConfig) -> NDArray[np.int64]:
    """Return how often every row stands in the training part, padding's included."""
    return np.bincount(split.training.items, minlength=grid.rows)


def from_parent(
    plan: TrainPlan, preset: Preset, parent: Checkpoint, split: Split, progress: Progress
) -> tuple[Preset, Mapping[str, Tensor] | None]:
    """Return the preset in the parent's architecture and the weights to start from, if any.

    A parent that was trained sparsely hands that on, too.
    """
    sparse = inherited(parent.manifest.training, preset.train.sparse)
    grid = parent.config.with_items(len(split.catalog))
    preset, obstacle = beside_parent(plan, preset, grid)
    if obstacle is not None:
        progress.log(f"training afresh: {obstacle}")
        return preset, None
    grid = with_table_of(grid, plan, split)
    if sparse is not None and sparse.unpacks(grid):
        grid = replace(grid, table=None, two_level=False)
    start = warm_start(
        parent.tensors,
        parent.catalog,
        split.catalog,
        split.training,
        was=parent.config,
        becomes=grid,
        seed=plan.seed,
    )
    if start.kept < _LEAST_KEPT * len(split.catalog):
        progress.log(
            f"training afresh: {parent.version} knows {start.kept:,} of "
            f"{len(split.catalog):,} items"
        )
        return preset, None
    progress.log(
        f"starting from {parent.version}: {start.kept:,} items kept, {start.new:,} new, "
        f"{start.gone:,} gone"
    )
    return replace(preset, supernet=grid, train=replace(preset.train, sparse=sparse)), start.state

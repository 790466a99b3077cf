"""Which loss a step takes: one softmax over the catalog or a sample of it, or two levels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from models.supernet import Supernet
from training.fit.config import TrainConfig
from training.fit.head_loss import Member, MemoryEntries, head_backward
from training.fit.scored_columns import ScoredColumns
from training.fit.two_level_loss import two_level_backward


class Head(Protocol):
    """Adds every gradient of a step's loss to a supernet; see `head_backward`."""

    def __call__(
        self,
        members: Sequence[Member],
        targets_P: Tensor,
        memory: MemoryEntries | None,
        draws: torch.Generator,
    ) -> list[float]:
        """Return mean cross-entropies; `draws` is used for negatives alone."""
        ...


def head_of(supernet: Supernet, config: TrainConfig, popularity_V: Tensor) -> Head:
    """Return the loss of the supernet's head; `popularity_V` float32 counts interactions."""
    if supernet.config.two_level:
        return partial(_two_levels, supernet, config)
    columns = ScoredColumns(supernet.config.num_items, config, popularity_V)
    return partial(_one_softmax, supernet, config, columns)


def _one_softmax(
    supernet: Supernet,
    config: TrainConfig,
    columns: ScoredColumns,
    members: Sequence[Member],
    targets_P: Tensor,
    memory: MemoryEntries | None,
    draws: torch.Generator,
) -> list[float]:
    return head_backward(
        supernet,
        members,
        targets_P,
        columns(targets_P, draws),
        memory,
        distillation=config.distillation,
        chunk_cells=config.chunk_cells,
    )


def _two_levels(
    supernet: Supernet,
    config: TrainConfig,
    members: Sequence[Member],
    targets_P: Tensor,
    memory: MemoryEntries | None,
    draws: torch.Generator,
) -> list[float]:
    del draws
    assert memory is None, "two levels learn without the memory: see `start.for_head`"
    return two_level_backward(
        supernet,
        members,
        targets_P,
        distillation=config.distillation,
        chunk_cells=config.chunk_cells,
    )

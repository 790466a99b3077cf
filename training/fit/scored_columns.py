"""Which rows a step scores: the whole catalog, or targets and drawn negatives where it is wide."""

from __future__ import annotations

import torch
from torch import Tensor

from training.fit.config import TrainConfig
from training.fit.head_loss import Columns, all_columns, drawn_columns


class ScoredColumns:
    """Calling it gives the columns of one step; see `TrainConfig.full_softmax_limit`.

    `popularity_V` float32 counts training interactions.
    """

    def __init__(self, num_items: int, config: TrainConfig, popularity_V: Tensor) -> None:
        self._full = all_columns(num_items)
        self._inclusion_V = (
            None
            if num_items <= config.full_softmax_limit
            else inclusion_probabilities(popularity_V, config.num_negatives)
        )

    def __call__(self, targets_P: Tensor, draws: torch.Generator) -> Columns:
        """Return the columns for these targets; `draws` is used for negatives alone."""
        if self._inclusion_V is None:
            return self._full
        return drawn_columns(targets_P, self._inclusion_V, draws)


def inclusion_probabilities(popularity_V: Tensor, num_negatives: int) -> Tensor:
    """Return each row's chance to be drawn: half by popularity^0.75, half alike; padding never.

    float32, at most 1; about `num_negatives` rows are drawn in expectation (fewer when popular
    rows hit the limit of 1).
    """
    weights = popularity_V.clamp(min=0.0) ** 0.75
    weights[0] = 0.0
    uniform = torch.ones_like(weights)
    uniform[0] = 0.0
    shares = 0.5 * weights / weights.sum().clamp(min=1e-12) + 0.5 * uniform / uniform.sum()
    return (num_negatives * shares).clamp(max=1.0)

"""What a training run has to show: its epochs and the best weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.memory import TransitionMemory
from models.router import Router
from models.supernet import Supernet
from training.elastic.narrow import Calibration
from training.fit.resume import ResumeDirectory


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochResult:
    """What one epoch showed. NDCG@10 of validation with the averaged weights.

    `top` names the largest submodel that was trained, the full network after growth.
    `ndcg_routed` is there where the method trains a router along: then it chooses the epoch, and
    both losses are the routed one.
    """

    epoch: int
    top: str
    loss_largest: float
    loss_smallest: float
    ndcg_largest: float
    ndcg_smallest: float
    seconds: float
    ndcg_routed: float | None = None

    @property
    def judged(self) -> float:
        """The figure that chooses the best epoch."""
        return self.ndcg_largest if self.ndcg_routed is None else self.ndcg_routed


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A trained supernet with the best validated weights, its memory, and how it went."""

    supernet: Supernet
    memory: TransitionMemory | None
    epochs: tuple[EpochResult, ...]
    best_epoch: int
    stopped: str
    """converged, epochs, time or asked"""
    held_U: NDArray[np.bool_]
    """Users of `split.training` that the weights never saw: the router learns from them."""
    resume: ResumeDirectory | None = None
    """Where the run is written down; clear it when its result is safe."""
    resumed: int = 0
    """How many of the epochs ran in processes that ended before: their time is not this one's."""
    router: Router | None = None
    """Trained along with the network, where the method does so."""
    calibration: Calibration | None = None
    """How rows are narrowed, where the table is elastic."""

"""One exploration step: as many die as come alive, so that the budget stays exact."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def keep_count(density: float, size: int) -> int:
    """Return how many of `size` live: the nearest whole number, never none."""
    return max(1, min(size, round(density * size)))


def random_choice(size: int, count: int, generator: torch.Generator) -> Tensor:
    """Return (size,) bool with exactly `count` drawn places."""
    chosen = torch.zeros(size, dtype=torch.bool)
    chosen[torch.randperm(size, generator=generator)[:count]] = True
    return chosen


def largest_choice(scores_N: Tensor, count: int) -> Tensor:
    """Return (N,) bool with exactly `count` places of the largest scores."""
    chosen = torch.zeros(len(scores_N), dtype=torch.bool)
    chosen[torch.topk(scores_N, count).indices] = True
    return chosen


def exchange(
    live_N: Tensor, fresh_N: Tensor, magnitude_N: Tensor, gradient_N: Tensor, rate: float
) -> tuple[Tensor, Tensor]:
    """Return (died_N, born_N) bool, equally many: ceil(rate * living), or as many as there are.

    Those of the smallest magnitude die, `fresh_N` (born last time) excepted; those dead ones of
    the largest gradient come alive, and none that dies now.
    """
    died_N, born_N = torch.zeros_like(live_N), torch.zeros_like(live_N)
    prunable_N = live_N & ~fresh_N
    living = int(live_N.sum())
    count = min(math.ceil(rate * living), int(prunable_N.sum()), len(live_N) - living)
    if count < 1:
        return died_N, born_N
    costs_N = magnitude_N.masked_fill(~prunable_N, torch.inf)
    died_N[torch.topk(costs_N, count, largest=False).indices] = True
    gains_N = gradient_N.masked_fill(live_N, -1.0)
    born_N[torch.topk(gains_N, count).indices] = True
    return died_N, born_N

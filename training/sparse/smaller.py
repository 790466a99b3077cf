"""The dense network of as many weights: what a sparse one has to beat."""

from __future__ import annotations

import math
from dataclasses import replace

from models.config import SupernetConfig


def smaller(config: SupernetConfig, density: float) -> SupernetConfig:
    """Return the grid with at most `density` of the weights, where its axes can be so narrow.

    Tables are linear in their width and layers quadratic in theirs, so embedding widths shrink by
    `density` and widths by its root.
    """
    step = 2 * config.num_heads
    return replace(
        config,
        emb_widths=_shrunk(config.emb_widths, density, 2),
        widths=_shrunk(config.widths, math.sqrt(density), step),
    )


def _shrunk(axis: tuple[int, ...], share: float, step: int) -> tuple[int, ...]:
    return tuple(sorted({max(step, int(share * size) // step * step) for size in axis}))

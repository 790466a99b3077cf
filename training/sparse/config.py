"""What sparse training is told: frozen, checked, and written into the checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from models.config import SupernetConfig

GRANULARITIES = ("element", "unit")
METHODS = ("dynamic", "static", "one-shot", "dense-small")


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseConfig:
    """How much of the weights lives, in what pieces, and how it is found which.

    `density` in 0..1 of the weights of the item table and the projections is alive at any moment
    (norms, biases and positions always are). Pieces: single weights ("element"), or ("unit")
    blocks of the item table, attention heads and feed-forward channels, which leave the network
    that is served when they die.

    `method` "dynamic" is the paper's: every `interval` steps a share of what lives, `start_rate`
    at first and falling along a cosine, dies by smallest magnitude, and as much comes alive by
    largest gradient; it ends after `stop_share` of the run. Gradients are summed over the last
    `window` steps before. "static" keeps a random choice. "one-shot" trains densely for half the
    run, keeps the largest and trains on. "dense-small" trains a smaller dense network of as many
    weights. A run that begins with given weights keeps the largest of those in any case.

    The item table has `row_blocks` blocks of rows, and columns in blocks of at most
    `column_block`.
    """

    density: float
    granularity: str = "element"
    method: str = "dynamic"
    interval: int = 200
    start_rate: float = 0.3
    stop_share: float = 0.75
    window: int = 50
    row_blocks: int = 16
    column_block: int = 8

    def __post_init__(self) -> None:
        if not 0 < self.density <= 1:
            raise ValueError(
                f"density is {self.density}; give the share of weights that stay, above 0 and at "
                "most 1"
            )
        for name, known in (("granularity", GRANULARITIES), ("method", METHODS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; known are {', '.join(known)}")
        for name in ("interval", "window", "row_blocks", "column_block"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 < self.start_rate < 1:
            raise ValueError(
                f"start_rate is {self.start_rate}; give the share that is exchanged at first, "
                "between 0 and 1 (the paper recommends 0.3 to 0.5)"
            )
        if not 0 < self.stop_share <= 1:
            raise ValueError(f"stop_share is {self.stop_share}; it must lie above 0, at most at 1")

    @property
    def masks(self) -> bool:
        """Whether weights are kept at zero while training: not so for a smaller dense network."""
        return self.density < 1 and self.method != "dense-small"

    def unpacks(self, grid: SupernetConfig) -> bool:
        """Whether a table in prefix blocks has to be whole again, so that its units can move."""
        packed = grid.table is not None and not grid.table.projected
        return packed and self.masks and self.granularity == "unit"

    def still(self) -> SparseConfig:
        """Return the config of a training that keeps the given choice as it is."""
        return replace(self, method="static") if self.masks else self

    def rate(self, progress: float) -> float:
        """Return the share of the living that is exchanged at `progress` of the run, 0..1.

        rho_0 / 2 * (1 + cos(pi * t / T_end)) (eq. 2 of the paper), 0 after `stop_share`.
        """
        if self.method != "dynamic" or progress >= self.stop_share:
            return 0.0
        return self.start_rate / 2 * (1 + math.cos(math.pi * progress))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SparseConfig:
        """Return the config whose fields are `values`; ValueError for unknown ones."""
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown or "density" not in values:
            raise ValueError(f"not a sparse training of this release: {sorted(values)}")
        return cls(**values)

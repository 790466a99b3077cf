"""Starting points chosen from the data itself: small, session-like or long-history."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from models.config import SupernetConfig
from training.data.split import Split
from training.fit.config import TrainConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A named architecture and training plan; `reason` says what in the data led to it."""

    name: str
    reason: str
    supernet: SupernetConfig
    train: TrainConfig

    def summary(self) -> str:
        """Return one line for a person."""
        grid = self.supernet
        return (
            f"preset {self.name} ({self.reason}): depths {list(grid.depths)}, widths "
            f"{list(grid.widths)}, embedding widths {list(grid.emb_widths)}, "
            f"histories of {grid.max_length}, at most {self.train.epochs} epochs"
            + (
                f" or {self.train.max_seconds / 60:g} minutes"
                if self.train.max_seconds is not None
                else ""
            )
        )


PRESETS: dict[str, tuple[dict[str, Any], TrainConfig]] = {
    # Few interactions: a small grid that is trained in minutes; strong dropout.
    "small": (
        {"max_length": 50, "depths": (1, 2), "widths": (32, 64), "emb_widths": (32, 64)},
        TrainConfig(
            epochs=40,
            patience=6,
            tokens_per_batch=1024,
            dropout=0.3,
            student_share=0.5,
            random_submodels=1,
            average_decay=0.995,
            warmup_steps=100,
            max_seconds=150.0,
        ),
    ),
    # Short histories over a wide catalog: shallow is enough, scoring dominates.
    "session": (
        {"max_length": 32, "depths": (1, 2), "widths": (32, 64), "emb_widths": (32, 64)},
        TrainConfig(
            epochs=40,
            patience=3,
            tokens_per_batch=2048,
            dropout=0.3,
            student_share=0.4,
            random_submodels=1,
            max_seconds=25 * 60.0,
        ),
    ),
    # Long histories: depth and width pay.
    "long": (
        {"max_length": 100, "depths": (1, 2, 4), "widths": (32, 64, 128), "emb_widths": (32, 64)},
        TrainConfig(
            epochs=60,
            patience=3,
            tokens_per_batch=2048,
            dropout=0.2,
            student_share=0.3,
            random_submodels=1,
            max_seconds=45 * 60.0,
        ),
    ),
}


def choose_preset(split: Split, *, name: str | None = None, seed: int = 0) -> Preset:
    """Return the preset that fits the training part, or the one called `name`.

    Under 200,000 training interactions with a median history of at least 10: small. A 95th
    percentile of at most 30 items per user: session. Otherwise: long. ValueError for an unknown
    name.
    """
    lengths = split.training.lengths()
    lengths = lengths[lengths > 0]
    total, median = int(lengths.sum()), float(np.median(lengths))
    p95 = float(np.percentile(lengths, 95))
    if name is not None:
        if name not in PRESETS:
            raise ValueError(f"preset {name!r} is unknown; known are {', '.join(PRESETS)}")
        reason = "asked for"
    elif p95 <= 30:
        name, reason = "session", f"95 % of users have at most {p95:.0f} interactions"
    elif total < 200_000:
        name, reason = "small", f"{total:,} training interactions"
    else:
        name, reason = "long", f"{total:,} training interactions, median history {median:.0f}"
    axes, train = PRESETS[name]
    return Preset(
        name=name,
        reason=reason,
        supernet=SupernetConfig(num_items=len(split.catalog), **axes),
        train=replace(train, seed=seed),
    )

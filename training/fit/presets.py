"""Starting points chosen from the data itself: small, session-like or long-history; or compact."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from models.config import SupernetConfig
from models.table.layout import dense_layout
from training.data.profile import DataProfile
from training.fit.config import TrainConfig
from training.sparse.config import SparseConfig


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
            + ("" if grid.table is None else f"item table of {_told(grid)}, head {grid.head}, ")
            + f"histories of {grid.max_length}, backbone {grid.backbone}, layer sharing "
            f"{grid.layer_sharing}, {_living(self.train.sparse)}at most {self.train.epochs} epochs"
            + (
                f" or {self.train.max_seconds / 60:g} minutes"
                if self.train.max_seconds is not None
                else ""
            )
        )


def _living(sparse: SparseConfig | None) -> str:
    """Return what sparse training leaves, for a person, a comma after it."""
    if sparse is None:
        return ""
    return f"{sparse.density:.0%} of the weights by {sparse.granularity}, "


def _told(grid: SupernetConfig) -> str:
    """Return the table's blocks and bytes for a person."""
    layout = grid.layout
    blocks = " + ".join(
        f"{size:,} x {block.width}" for size, block in zip(layout.sizes, layout.blocks, strict=True)
    )
    whole = dense_layout(grid.rows, grid.emb_width).num_bytes(grid.emb_width)
    own = layout.num_bytes(grid.emb_width)
    return f"{blocks} ({own:,} bytes, {own / whole:.1%} of the whole table's)"


PRESETS: dict[str, tuple[dict[str, Any], TrainConfig]] = {
    # Few interactions: a small grid that is trained in minutes; small fast steps.
    "small": (
        {"max_length": 50, "depths": (1, 2), "widths": (32, 64), "emb_widths": (32, 64)},
        TrainConfig(
            epochs=40,
            patience=6,
            tokens_per_batch=512,
            learning_rate=3e-3,
            dropout=0.2,
            student_share=0.5,
            random_submodels=1,
            average_decay=0.99,
            warmup_steps=100,
            max_seconds=150.0,
            # Steps are too small to share: a second thread gains little on an idle machine and
            # loses most of both cores to waiting on a busy one.
            threads=1,
        ),
    ),
    # Short histories over a wide catalog: scoring dominates, and shallow is enough once a deep
    # network has taught it.
    "session-like": (
        {"max_length": 32, "depths": (1, 2, 4), "widths": (32, 64, 128), "emb_widths": (32, 64)},
        TrainConfig(
            epochs=40,
            patience=6,
            tokens_per_batch=1024,
            learning_rate=3e-3,
            dropout=0.3,
            student_share=0.4,
            random_submodels=1,
            average_decay=0.995,
            max_seconds=45 * 60.0,
        ),
    ),
    # Long histories: depth and width pay, once the item table stands.
    "long-history": (
        {"max_length": 100, "depths": (1, 2, 4), "widths": (32, 64, 128), "emb_widths": (64,)},
        TrainConfig(
            epochs=60,
            patience=4,
            tokens_per_batch=2048,
            learning_rate=3e-3,
            dropout=0.2,
            growth_epochs=10,
            growth_share=0.5,
            full_softmax_limit=1_000,
            num_negatives=500,
            memory_joins="afterwards",
            router_users=0.1,
            closing_epochs=2,
            student_share=0.3,
            random_submodels=1,
            max_seconds=60 * 60.0,
        ),
    ),
}


COMPACT = "compact"
"""A quarter of table, heads and channels, whatever else the data ask for; see `choose_preset`."""
_COMPACT = SparseConfig(density=0.25, granularity="unit")
NAMES = (*PRESETS, COMPACT)


def choose_preset(
    found: DataProfile, *, num_items: int, name: str | None = None, seed: int = 0
) -> Preset:
    """Return the preset for the kind of data found, or the one called `name`.

    "compact" is the one for the data, trained sparsely by units. ValueError for an unknown name.
    """
    if name == COMPACT:
        preset = choose_preset(found, num_items=num_items, seed=seed)
        return replace(
            preset,
            name=COMPACT,
            reason=f"asked for; {found.kind} data",
            train=replace(preset.train, sparse=_COMPACT),
        )
    if name is None:
        name, reason = found.kind, f"chosen for {found.kind} data"
    elif name in PRESETS:
        reason = "asked for"
    else:
        raise ValueError(f"preset {name!r} is unknown; known are {', '.join(NAMES)}")
    axes, train = PRESETS[name]
    return Preset(
        name=name,
        reason=reason,
        supernet=SupernetConfig(num_items=num_items, **axes),
        train=replace(train, seed=seed),
    )

"""Grow the network while it trains: any body teaches the item table, and small ones are cheap."""

from __future__ import annotations

from models.config import Submodel, SupernetConfig


def rungs(config: SupernetConfig) -> tuple[Submodel, ...]:
    """Return the submodels that training tops out at, by rising size, the full network last.

    The diagonal of the grid: the i-th depth with the i-th width, at full embedding width.
    """
    steps = max(len(config.depths), len(config.widths))
    ladder = []
    for step in range(steps):
        # Both axes end together, so the shorter one starts later.
        depth = config.depths[max(0, len(config.depths) - steps + step)]
        width = config.widths[max(0, len(config.widths) - steps + step)]
        ladder.append(Submodel(depth=depth, width=width, emb_width=config.emb_width))
    return tuple(ladder)


def within(submodel: Submodel, top: Submodel) -> bool:
    """Whether every weight of `submodel` is one of `top`'s."""
    return (
        submodel.depth <= top.depth
        and submodel.width <= top.width
        and submodel.emb_width <= top.emb_width
    )

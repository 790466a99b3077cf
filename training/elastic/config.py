"""Which rows of the item table are narrowed together, and to which widths."""

# G item groups, W widths, N column blocks

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.search.search import INDEX_FROM_ROWS
from models.table.layout import TableBlock, TableLayout

GROUPS = 20
# About a third apart where bytes are many, a half where they are few.
_WIDTHS = (2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
_KEPT = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
_MOST_GROUPS = 256
DIVERSITY = 1.0
"""Usual weight of the diversity term, beside a cross-entropy: see `diversity.py`."""

Orders = tuple[tuple[int, ...], ...]
"""(G, N): each group's column blocks, the one that it keeps longest first."""
Choice = NDArray[np.int64]
"""(G,) int64: each group's place in `ElasticConfig.widths`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ElasticPlan:
    """What is asked for: how many item groups, and the widths; None takes usual ones.

    With `blocks` the embedding's columns are so many blocks of equal width, and a group keeps any
    of them in place of a prefix; `diversity` weighs the term that keeps blocks distinct.
    """

    groups: int = GROUPS
    widths: tuple[int, ...] | None = None
    blocks: int | None = None
    diversity: float = DIVERSITY

    def __post_init__(self) -> None:
        if not (math.isfinite(self.diversity) and self.diversity >= 0):
            raise ValueError(
                f"elastic diversity is {self.diversity:g}; give a weight of at least 0, which "
                "switches it off"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ElasticConfig:
    """Groups of neighbouring rows, so of like popularity, end before `stops`; row 0 is padding.

    `widths` ascend and end with the whole embedding. Without `blocks` a group of width w keeps the
    leading w columns. With them it keeps blocks, w columns of them: the first in the group's own
    order, which `orders` tells. A group's choices are then a chain of nested sets, one a width, and
    not the paper's every subset; leading blocks where there is no order yet.
    """

    stops: tuple[int, ...]
    widths: tuple[int, ...]
    blocks: int | None = None
    diversity: float = 0.0
    orders: Orders | None = None

    @classmethod
    def of(cls, plan: ElasticPlan, *, num_items: int, emb_widths: tuple[int, ...]) -> ElasticConfig:
        """Return groups of equal size for a catalog; ValueError when the plan does not fit it.

        `emb_widths` are those of the submodels, ascending to the whole embedding.
        """
        emb_width = emb_widths[-1]
        if not 1 <= plan.groups <= min(num_items, _MOST_GROUPS):
            raise ValueError(
                f"{plan.groups} elastic groups are asked for; give 1 to "
                f"{min(num_items, _MOST_GROUPS)} for a catalog of {num_items:,} items"
            )
        block = _block_width(plan.blocks, emb_widths)
        widths = plan.widths
        if widths is None:
            widths = _usual(block, emb_width)
        beyond = [one for one in widths if one > emb_width]
        if beyond:
            raise ValueError(
                f"elastic width {beyond[0]} is wider than the embedding's {emb_width} columns"
            )
        if any(one < 1 for one in widths) or list(widths) != sorted(set(widths)):
            raise ValueError(f"elastic widths are {widths}; give ascending, positive widths")
        parts = [one for one in widths if one % block]
        if parts:
            raise ValueError(
                f"elastic width {parts[0]} is not a number of whole blocks: {plan.blocks} blocks "
                f"of {emb_width} columns are {block} wide; give multiples of {block}"
            )
        stops = tuple(1 + num_items * (group + 1) // plan.groups for group in range(plan.groups))
        return cls(
            stops=stops,
            widths=(*(one for one in widths if one < emb_width), emb_width),
            blocks=plan.blocks,
            diversity=0.0 if plan.blocks is None else plan.diversity,
        )

    @property
    def starts(self) -> tuple[int, ...]:
        """The first row of every group."""
        return (0, *self.stops[:-1])

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Rows of every group, padding's in the first."""
        return np.diff(self.stops, prepend=0).astype(np.int64)

    @property
    def whole(self) -> Choice:
        """The choice that narrows nothing."""
        return np.full(len(self.stops), len(self.widths) - 1)

    def widths_of(self, choice_G: Choice) -> tuple[int, ...]:
        """Return each group's width."""
        return tuple(self.widths[place] for place in choice_G.tolist())

    def columns(self, group: int, place: int) -> tuple[int, ...] | None:
        """Return the columns that a group keeps at `widths[place]`; None for the leading ones."""
        if self.orders is None or self.blocks is None:
            return None
        size = self.widths[-1] // self.blocks
        kept = sorted(self.orders[group][: self.widths[place] // size])
        if kept[-1] == len(kept) - 1:
            return None
        return tuple(one * size + inside for one in kept for inside in range(size))

    def layout(self, choice_G: Choice) -> TableLayout:
        """Return the table's blocks: neighbouring groups of the same columns are one block.

        Not where that would be long enough for a search index, whose bytes the narrowed rows
        would have to make room for.
        """
        blocks: list[TableBlock] = []
        start = 0
        for group, (stop, place) in enumerate(zip(self.stops, choice_G.tolist(), strict=True)):
            width, columns = self.widths[place], self.columns(group, place)
            same = bool(blocks) and (blocks[-1].width, blocks[-1].columns) == (width, columns)
            if same and stop - start < INDEX_FROM_ROWS:
                blocks.pop()
            else:
                start = blocks[-1].stop if blocks else 0
            blocks.append(TableBlock(stop, width, columns))
        return TableLayout(tuple(blocks), projected=False)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; of blocks and diversity nothing where rows are cut to prefixes.

        What blocks are kept is no part of it: training draws it, measuring finds it.
        """
        values = asdict(self)
        del values["orders"]
        if self.blocks is None:
            del values["blocks"], values["diversity"]
        return values


def _block_width(blocks: int | None, emb_widths: tuple[int, ...]) -> int:
    """Return the columns of a block, 1 without blocks; ValueError for blocks that do not fit."""
    if blocks is None:
        return 1
    whole = emb_widths[-1]
    if not 2 <= blocks <= whole or whole % blocks:
        fit = [str(one) for one in range(2, whole + 1) if whole % one == 0]
        raise ValueError(
            f"{blocks} elastic blocks do not divide the embedding's {whole} columns evenly; give "
            f"one of {', '.join(fit) or 'no blocks'}"
        )
    size = whole // blocks
    cut = [one for one in emb_widths if one % size]
    if cut:
        raise ValueError(
            f"the submodels' embedding width {cut[0]} cuts through a block: {blocks} elastic "
            f"blocks of {whole} columns are {size} wide; give more blocks, or embedding widths "
            f"that are multiples of {size}"
        )
    return size


def _usual(block: int, emb_width: int) -> tuple[int, ...]:
    widths = _WIDTHS if block == 1 else tuple(block * one for one in _KEPT)
    return tuple(one for one in widths if one < emb_width)

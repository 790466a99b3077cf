"""Which rows of the item table are narrowed together, and to which widths."""

# G item groups, W widths

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.search.search import INDEX_FROM_ROWS
from models.table.layout import TableBlock, TableLayout

GROUPS = 20
# About a third apart where bytes are many, a half where they are few.
_WIDTHS = (2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
_MOST_GROUPS = 256

Choice = NDArray[np.int64]
"""(G,) int64: each group's place in `ElasticConfig.widths`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ElasticPlan:
    """What is asked for: how many item groups, and the widths; None takes usual ones."""

    groups: int = GROUPS
    widths: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ElasticConfig:
    """Groups of neighbouring rows, so of like popularity, end before `stops`; row 0 is padding.

    `widths` ascend and end with the whole embedding.
    """

    stops: tuple[int, ...]
    widths: tuple[int, ...]

    @classmethod
    def of(cls, plan: ElasticPlan, *, num_items: int, emb_width: int) -> ElasticConfig:
        """Return groups of equal size for a catalog; ValueError when the plan does not fit it."""
        if not 1 <= plan.groups <= min(num_items, _MOST_GROUPS):
            raise ValueError(
                f"{plan.groups} elastic groups are asked for; give 1 to "
                f"{min(num_items, _MOST_GROUPS)} for a catalog of {num_items:,} items"
            )
        widths = plan.widths
        if widths is None:
            widths = tuple(one for one in _WIDTHS if one < emb_width)
        beyond = [one for one in widths if one > emb_width]
        if beyond:
            raise ValueError(
                f"elastic width {beyond[0]} is wider than the embedding's {emb_width} columns"
            )
        if any(one < 1 for one in widths) or list(widths) != sorted(set(widths)):
            raise ValueError(f"elastic widths are {widths}; give ascending, positive widths")
        stops = tuple(1 + num_items * (group + 1) // plan.groups for group in range(plan.groups))
        return cls(stops=stops, widths=(*(one for one in widths if one < emb_width), emb_width))

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

    def layout(self, choice_G: Choice) -> TableLayout:
        """Return the table's blocks: neighbouring groups of one width are one block.

        Not where that would be long enough for a search index, whose bytes the narrowed rows
        would have to make room for.
        """
        blocks: list[TableBlock] = []
        start = 0
        for stop, width in zip(self.stops, self.widths_of(choice_G), strict=True):
            if blocks and blocks[-1].width == width and stop - start < INDEX_FROM_ROWS:
                blocks.pop()
            else:
                start = blocks[-1].stop if blocks else 0
            blocks.append(TableBlock(stop, width))
        return TableLayout(tuple(blocks), projected=False)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

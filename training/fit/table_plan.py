"""Which blocks the item table is trained in: cuts and ranks as given, or chosen for a budget."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from models.config import HEADS, SupernetConfig
from models.table.layout import TableBlock, TableLayout, dense_layout

FACTOR = 1
"""By how much the rank falls from block to block for a budget: not at all, measured no worse."""
FALLING = 4
"""The same in CpRec's own configurations, and for two levels, which need several blocks."""
BLOCKS = 3
_MOST_FACTOR = 64
_LEAST_HEAD = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class TableWish:
    """What a run is asked for: `cuts` and `ranks`, or `num_bytes`.

    `cuts` counts items by falling popularity: (500, 2000) makes blocks of the 500 most popular,
    the next 1,500 and the rest; `ranks` has one number more and never rises. `num_bytes` is the
    most that rows and projections may take, in float32; `factor` by how much the rank falls from
    one of its blocks to the next, 1 for one rank for every item; None leaves it to the head.
    """

    cuts: tuple[int, ...] | None = None
    ranks: tuple[int, ...] | None = None
    num_bytes: int | None = None
    factor: int | None = None

    def __post_init__(self) -> None:
        if (self.cuts is None) != (self.ranks is None):
            raise ValueError("table cuts and table ranks go together; give both or neither")
        if (self.cuts is None) == (self.num_bytes is None):
            raise ValueError("give table cuts and ranks, or table bytes, not both")
        if self.num_bytes is not None and self.num_bytes < 1:
            raise ValueError(f"table bytes is {self.num_bytes}; it must be at least 1")
        if self.factor is not None and self.num_bytes is None:
            raise ValueError("a table factor goes with table bytes; give these, or no factor")
        if self.factor is not None and not 1 <= self.factor <= _MOST_FACTOR:
            raise ValueError(
                f"table factor is {self.factor}; give 1 (one rank for every item) to {_MOST_FACTOR}"
            )
        if self.cuts is None or self.ranks is None:
            return
        if any(cut < 1 for cut in self.cuts) or any(a >= b for a, b in pairwise(self.cuts)):
            raise ValueError(
                f"table cuts are {_listed(self.cuts)}; give rising numbers of items, each at least "
                "1, such as 500,2000"
            )
        if len(self.ranks) != len(self.cuts) + 1:
            raise ValueError(
                f"{len(self.cuts)} table cuts make {len(self.cuts) + 1} blocks, and there are "
                f"{len(self.ranks)} table ranks; give one rank for each block"
            )
        if any(rank < 1 for rank in self.ranks):
            raise ValueError(
                f"table ranks are {_listed(self.ranks)}; every rank must be at least 1"
            )
        if any(a < b for a, b in pairwise(self.ranks)):
            raise ValueError(
                f"table ranks are {_listed(self.ranks)}; they may not rise, since the first block "
                "holds the most popular items"
            )


def with_table(
    grid: SupernetConfig,
    wish: TableWish | None,
    counts_V: NDArray[np.int64],
    head: str | None = None,
) -> SupernetConfig:
    """Return the architecture with the table and head that were asked for, else its own.

    `counts_V` counts the training interactions of every row, padding's included; rows stand by
    falling popularity. `head` is one of HEADS. ValueError where the wish does not fit the catalog
    or the embedding, or the head does not fit the table.
    """
    two_level = grid.two_level if head is None else head == "two_level"
    factor = FALLING if two_level else FACTOR
    table = grid.table if wish is None else _wished(grid, wish, counts_V, factor)
    if head is None:
        head = "two_level" if grid.two_level else "flat_lowrank" if table else "full"
    if head not in HEADS:
        raise ValueError(f"head {head!r} is unknown; known are {', '.join(HEADS)}")
    if head == "full" and table is not None:
        raise ValueError(
            "head full is of a table that is stored whole, and this one stands in blocks; leave "
            "the head out, or the table's cuts, ranks and bytes"
        )
    if head != "full" and table is None:
        raise ValueError(
            f"head {head} needs an item table in blocks, and this one is stored whole; give table "
            "cuts and ranks, or fewer table bytes"
        )
    return replace(grid, table=table, two_level=head == "two_level")


def _wished(
    grid: SupernetConfig, wish: TableWish, counts_V: NDArray[np.int64], factor: int
) -> TableLayout | None:
    if wish.num_bytes is not None:
        factor = factor if wish.factor is None else wish.factor
        return layout_within(wish.num_bytes, counts_V, grid.emb_width, factor)
    assert wish.cuts is not None
    assert wish.ranks is not None
    if wish.cuts and wish.cuts[-1] >= grid.num_items:
        raise ValueError(
            f"table cut {wish.cuts[-1]:,} leaves no item for the block after it: the catalog has "
            f"{grid.num_items:,}; leave the cut and its rank out"
        )
    if wish.ranks[0] > grid.emb_width:
        raise ValueError(
            f"table rank {wish.ranks[0]} is more than the embedding's {grid.emb_width} columns; "
            "lower the rank or give wider --emb-widths"
        )
    stops = (*(cut + 1 for cut in wish.cuts), grid.rows)
    blocks = tuple(TableBlock(*pair) for pair in zip(stops, wish.ranks, strict=True))
    return TableLayout(blocks, projected=True)


def layout_within(
    num_bytes: int, counts_V: NDArray[np.int64], emb_width: int, factor: int = FACTOR
) -> TableLayout | None:
    """Return the layout for a budget: rows and projections take at most `num_bytes`.

    Three blocks, each of the rank before it over `factor`. Where the first covers a share s of the
    interactions the second covers the same share of the rest, and s is the largest that fits. The
    first rank is the embedding's width; where s would be less than a half it is that over `factor`,
    and so on down to rank 1 for every row. With a factor of 1 one block of the largest rank that
    fits. None where the table fits as it is, whole.

    ValueError below that floor; the message names it.
    """
    rows = len(counts_V)
    if dense_layout(rows, emb_width).num_bytes(emb_width) <= num_bytes:
        return None
    per_rank = TableLayout((TableBlock(rows, 1),), projected=True).num_bytes(emb_width)
    if num_bytes < per_rank:
        raise ValueError(
            f"a table of {rows - 1:,} items does not fit {num_bytes:,} bytes; the least is "
            f"{per_rank:,} bytes, rank 1 for every item"
        )
    if factor == 1:
        rank = min(emb_width - 1, num_bytes // per_rank)
        return TableLayout((TableBlock(rows, rank),), projected=True)
    share_V = np.cumsum(counts_V) / max(1, int(counts_V.sum()))
    first = emb_width
    while True:
        ranks = tuple(max(1, first // factor**place) for place in range(BLOCKS))
        found = _largest_head(num_bytes, share_V, ranks, emb_width)
        if found is not None and (first == 1 or _covered(found, share_V) >= _LEAST_HEAD):
            return found
        first = max(1, first // factor)


def _largest_head(
    num_bytes: int, share_V: NDArray[np.float64], ranks: tuple[int, ...], emb_width: int
) -> TableLayout | None:
    """Return the layout of the longest first block that fits; None where not even one row does."""
    low, high = 0, len(share_V)  # heads of `low` rows fit, of `high` do not
    while high - low > 1:
        middle = (low + high) // 2
        layout = _with_head(middle, share_V, ranks)
        fits = layout.num_bytes(emb_width) <= num_bytes
        low, high = (middle, high) if fits else (low, middle)
    if low == 0 and len(set(ranks)) == 1:
        low = len(share_V)
    if low == 0 or _with_head(low, share_V, ranks).num_bytes(emb_width) > num_bytes:
        return None
    return _with_head(low, share_V, ranks)


def _with_head(head: int, share_V: NDArray[np.float64], ranks: tuple[int, ...]) -> TableLayout:
    """Return blocks of these ranks, the first of `head` rows; equal neighbours are one block."""
    rows = len(share_V)
    stops = [head]
    left = 1 - share_V[head - 1]
    for place in range(1, len(ranks) - 1):
        covered = 1 - left ** (place + 1)
        stops.append(max(stops[-1] + 1, int(np.searchsorted(share_V, covered)) + 1))
    blocks: list[TableBlock] = []
    for stop, rank in zip((*stops, rows), ranks, strict=True):
        stop = min(stop, rows)
        if blocks and blocks[-1].width == rank:
            blocks.pop()
        if not blocks or stop > blocks[-1].stop:
            blocks.append(TableBlock(stop, rank))
    return TableLayout(tuple(blocks), projected=True)


def _covered(layout: TableLayout, share_V: NDArray[np.float64]) -> float:
    return float(share_V[layout.blocks[0].stop - 1])


def _listed(values: tuple[int, ...]) -> str:
    return ",".join(map(str, values))

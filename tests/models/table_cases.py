"""Random layouts and tables for property tests."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

from models.table.layout import TableBlock, TableLayout
from models.table.parameters import BlockedTable
from models.table.table import ItemTable


@st.composite
def layouts(
    draw: st.DrawFn, rows: int, emb_width: int, *, projected: bool | None = None
) -> TableLayout:
    """A layout of a table of this size, of either kind unless told."""
    of_ranks = draw(st.booleans()) if projected is None else projected
    cuts = draw(st.sets(st.integers(1, rows - 1), max_size=4)) if rows > 1 else set()
    widths = draw(
        st.lists(st.integers(1, emb_width), min_size=len(cuts) + 1, max_size=len(cuts) + 1)
    )
    if of_ranks:
        widths.sort(reverse=True)
    stops = [*sorted(cuts), rows]
    return TableLayout(
        tuple(TableBlock(*pair) for pair in zip(stops, widths, strict=True)), projected=of_ranks
    )


def random_table(layout: TableLayout, emb_width: int, seed: int) -> ItemTable:
    """A table of fresh random weights."""
    blocked = BlockedTable(layout, emb_width)
    blocked.initialise(torch.Generator().manual_seed(seed))
    return blocked.requires_grad_(False).table()

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
    """A layout of a table of this size, of either kind unless told.

    Blocks without projection keep leading columns or any.
    """
    of_ranks = draw(st.booleans()) if projected is None else projected
    cuts = draw(st.sets(st.integers(1, rows - 1), max_size=4)) if rows > 1 else set()
    widths = draw(
        st.lists(st.integers(1, emb_width), min_size=len(cuts) + 1, max_size=len(cuts) + 1)
    )
    if of_ranks:
        widths.sort(reverse=True)
    stops = [*sorted(cuts), rows]
    blocks = [
        TableBlock(stop, width, None if of_ranks else draw(columns(width, emb_width)))
        for stop, width in zip(stops, widths, strict=True)
    ]
    return TableLayout(tuple(blocks), projected=of_ranks)


def columns(width: int, emb_width: int) -> st.SearchStrategy[tuple[int, ...] | None]:
    """So many columns of an embedding, ascending, or None for the leading ones."""
    some = st.sets(st.integers(0, emb_width - 1), min_size=width, max_size=width)
    return st.none() | some.map(lambda chosen: tuple(sorted(chosen)))


def random_table(layout: TableLayout, emb_width: int, seed: int) -> ItemTable:
    """A table of fresh random weights."""
    blocked = BlockedTable(layout, emb_width)
    blocked.initialise(torch.Generator().manual_seed(seed))
    return blocked.requires_grad_(False).table()

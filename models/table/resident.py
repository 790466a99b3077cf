"""What a service holds for the items' vectors: rows, biases, alignment, and what finds them."""

from __future__ import annotations

from models.search.quantise import index_bytes
from models.search.search import INDEX_FROM_ROWS
from models.table.layout import FLOAT_BYTES, TableLayout

ALIGNMENT = 64
"""Every array of floats begins at a multiple of this."""
ENTRY_BYTES = 16
"""First and last row of a block, two 64-bit integers."""
COLUMN_BYTES = 8
"""A column that a block names, a 64-bit integer."""


def aligned(num_bytes: int) -> int:
    """Return the bytes that an array of `num_bytes` takes."""
    return -(-num_bytes // ALIGNMENT) * ALIGNMENT


def block_bytes(rows: int, width: int, query_widths: int, *, named: bool = False) -> int:
    """Return what a block without projection takes, its entry in the list of blocks included.

    A block as long as a catalog that is searched by an index has one, for `query_widths` embedding
    widths at most. One that is `named` holds a list of its columns besides.
    """
    index = index_bytes(rows, width, query_widths) if rows >= INDEX_FROM_ROWS else 0
    columns = aligned(COLUMN_BYTES * width) if named else 0
    return aligned(FLOAT_BYTES * rows * width) + columns + index + ENTRY_BYTES


def bias_bytes(rows: int) -> int:
    """Return what the item biases of a table take."""
    return aligned(FLOAT_BYTES * rows)


def resident_bytes(layout: TableLayout, query_widths: int) -> int:
    """Return what a table without projections takes, with its item biases; see `block_bytes`.

    An item's row follows from its place in the catalog, so ids take nothing here.
    """
    blocks = sum(
        block_bytes(size, block.width, query_widths, named=block.columns is not None)
        for size, block in zip(layout.sizes, layout.blocks, strict=True)
    )
    return blocks + bias_bytes(layout.rows)

"""What a service holds for the items' vectors: rows, biases, alignment, and what finds them."""

from __future__ import annotations

from models.search.quantise import index_bytes
from models.search.search import INDEX_FROM_ROWS
from models.table.layout import FLOAT_BYTES, TableLayout

ALIGNMENT = 64
"""Every array of floats begins at a multiple of this."""
ENTRY_BYTES = 16
"""First and last row of a block, two 64-bit integers."""


def aligned(num_bytes: int) -> int:
    """Return the bytes that an array of `num_bytes` takes."""
    return -(-num_bytes // ALIGNMENT) * ALIGNMENT


def block_bytes(rows: int, width: int, *, indexed: int = 0) -> int:
    """Return what a block without projection takes, its entry in the list of blocks included.

    `indexed` is for how many query widths a search index of it is held; 0 for no index.
    """
    index = index_bytes(rows, width, indexed) if indexed else 0
    return aligned(FLOAT_BYTES * rows * width) + index + ENTRY_BYTES


def bias_bytes(rows: int) -> int:
    """Return what the item biases of a table take."""
    return aligned(FLOAT_BYTES * rows)


def resident_bytes(layout: TableLayout, query_widths: int) -> int:
    """Return what a table without projections takes, with its item biases.

    Blocks as long as a catalog that is searched by an index have one, for `query_widths` embedding
    widths at most. An item's row follows from its place in the catalog, so ids take nothing here.
    """
    blocks = sum(
        block_bytes(size, block.width, indexed=query_widths if size >= INDEX_FROM_ROWS else 0)
        for size, block in zip(layout.sizes, layout.blocks, strict=True)
    )
    return blocks + bias_bytes(layout.rows)

"""What a service holds for the items' vectors: rows, item biases, alignment, the blocks' index."""

from __future__ import annotations

from models.table.layout import FLOAT_BYTES, TableLayout

ALIGNMENT = 64
"""Every array of floats begins at a multiple of this."""
INDEX_BYTES = 16
"""First and last row of a block, two 64-bit integers."""


def aligned(num_bytes: int) -> int:
    """Return the bytes that an array of `num_bytes` takes."""
    return -(-num_bytes // ALIGNMENT) * ALIGNMENT


def block_bytes(rows: int, width: int) -> int:
    """Return what a block without projection takes, its entry in the index included."""
    return aligned(FLOAT_BYTES * rows * width) + INDEX_BYTES


def bias_bytes(rows: int) -> int:
    """Return what the item biases of a table take."""
    return aligned(FLOAT_BYTES * rows)


def resident_bytes(layout: TableLayout) -> int:
    """Return what a table without projections takes, with its item biases.

    An item's row follows from its place in the catalog, so ids take nothing here.
    """
    blocks = sum(
        block_bytes(size, block.width)
        for size, block in zip(layout.sizes, layout.blocks, strict=True)
    )
    return blocks + bias_bytes(layout.rows)

"""How the item table is stored: row blocks in popularity order, each with a width of its own.

Two ways for a row to have fewer numbers than the embedding has columns, and one class for both.
CpRec (SIGIR 2020): a block has a rank and a learned projection to the embedding. RULE (KDD 2021):
a block keeps its leading columns, and the others count as zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

FLOAT_BYTES = 4
MOST_BLOCKS = 4096


def _at_least(name: str, value: object, least: int) -> None:
    if type(value) is not int or value < least:
        raise ValueError(f"{name} is {value!r}; it must be an integer of at least {least}")


@dataclass(frozen=True, slots=True)
class TableBlock:
    """Rows up to `stop` (exclusive; padding's row 0 counts) hold `width` numbers each."""

    stop: int
    width: int

    def __post_init__(self) -> None:
        _at_least("a block's stop", self.stop, 1)
        _at_least("a block's width", self.width, 1)


@dataclass(frozen=True, slots=True)
class TableLayout:
    """Blocks by rising `stop`, the first from row 0, the last to the end of the table.

    `projected`: widths are ranks, which never rise, and each block narrower than the embedding
    has a projection (width, emb_width) that is learned; it serves input and, transposed, output.
    Otherwise a block holds the leading `width` columns of the embedding and the rest is zero.
    """

    blocks: tuple[TableBlock, ...]
    projected: bool

    def __post_init__(self) -> None:
        if not isinstance(self.projected, bool):
            raise ValueError(f"projected is {self.projected!r}; give true or false")
        if not self.blocks:
            raise ValueError("a table needs at least one block")
        for before, after in pairwise(self.blocks):
            if before.stop >= after.stop:
                raise ValueError(
                    f"a block stops at row {after.stop}, not after row {before.stop} of the one "
                    "before it; blocks stand by rising rows"
                )
            if self.projected and before.width < after.width:
                raise ValueError(
                    f"rank {after.width} follows rank {before.width}; ranks may not rise, since "
                    "rows stand by falling popularity"
                )

    @property
    def rows(self) -> int:
        """Rows of the table, padding's included."""
        return self.blocks[-1].stop

    @property
    def starts(self) -> tuple[int, ...]:
        """The first row of every block."""
        return (0, *(block.stop for block in self.blocks[:-1]))

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many rows every block has."""
        return tuple(
            block.stop - start for block, start in zip(self.blocks, self.starts, strict=True)
        )

    def projects(self, block: TableBlock, emb_width: int) -> bool:
        """Whether `block` has a projection in a table of `emb_width` columns."""
        return self.projected and block.width < emb_width

    def check(self, rows: int, emb_width: int) -> None:
        """Return when the layout is one of a table of this size; ValueError otherwise."""
        if self.rows != rows:
            raise ValueError(f"the table's blocks end at row {self.rows}, the table at row {rows}")
        widest = max(block.width for block in self.blocks)
        if widest > emb_width:
            raise ValueError(
                f"a block is {widest} wide, wider than the embedding's {emb_width} columns; "
                "narrow the block or widen the embedding"
            )

    def for_rows(self, rows: int) -> TableLayout:
        """Return the same cuts for a table of another size: its last block grows or shrinks.

        Blocks that would begin beyond the end are left out.
        """
        kept = [block for block in self.blocks[:-1] if block.stop < rows]
        return TableLayout(
            (*kept, TableBlock(rows, self.blocks[len(kept)].width)), projected=self.projected
        )

    def parameters(self, emb_width: int, columns: int) -> tuple[int, int]:
        """Return (numbers in rows, numbers in projections) that a query of `columns` reads.

        `emb_width` is the whole embedding's; `columns` the leading share of it.
        """
        in_rows = in_projections = 0
        for block, size in zip(self.blocks, self.sizes, strict=True):
            if self.projects(block, emb_width):
                in_rows += size * block.width
                in_projections += block.width * columns
            else:
                in_rows += size * min(block.width, columns)
        return in_rows, in_projections

    def num_bytes(self, emb_width: int) -> int:
        """Return the float32 bytes of rows and projections, exactly."""
        return FLOAT_BYTES * sum(self.parameters(emb_width, emb_width))

    def embed_multiply_adds(self, emb_width: int, columns: int) -> int:
        """Return the multiply-adds of the dearest row's lookup; 0 without projections."""
        return max(
            block.width * columns if self.projects(block, emb_width) else 0 for block in self.blocks
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values that `from_json` reads back to an equal layout."""
        return {
            "blocks": [{"stop": block.stop, "width": block.width} for block in self.blocks],
            "projected": self.projected,
        }

    @classmethod
    def from_json(cls, values: Any) -> TableLayout:
        """Return the layout that `to_json` wrote; ValueError for anything else."""
        if not isinstance(values, dict) or set(values) != {"blocks", "projected"}:
            raise ValueError("table must be an object of blocks and projected")
        blocks = values["blocks"]
        if not isinstance(blocks, list | tuple) or len(blocks) > MOST_BLOCKS:
            raise ValueError(f"table.blocks must be a list of at most {MOST_BLOCKS} blocks")
        if not all(isinstance(block, dict) and set(block) == {"stop", "width"} for block in blocks):
            raise ValueError("table.blocks must hold objects of stop and width")
        return cls(tuple(TableBlock(**block) for block in blocks), projected=values["projected"])


def dense_layout(rows: int, emb_width: int) -> TableLayout:
    """Return the layout of a table that is stored whole: one block, no projection."""
    return TableLayout((TableBlock(rows, emb_width),), projected=False)

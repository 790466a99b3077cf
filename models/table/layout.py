"""How the item table is stored: row blocks in popularity order, each with a width of its own.

Two ways for a row to have fewer numbers than the embedding has columns, and one class for both.
CpRec (SIGIR 2020): a block has a rank and a learned projection to the embedding. RULE (KDD 2021):
a block keeps its leading columns, or any it names, and the others count as zero.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

FLOAT_BYTES = 4
MOST_BLOCKS = 4096
_BLOCK_KEYS = {"stop", "width", "columns"}


def _at_least(name: str, value: object, least: int) -> None:
    if type(value) is not int or value < least:
        raise ValueError(f"{name} is {value!r}; it must be an integer of at least {least}")


@dataclass(frozen=True, slots=True)
class TableBlock:
    """Rows up to `stop` (exclusive; padding's row 0 counts) hold `width` numbers each.

    `columns` says which of the embedding these are, ascending; None stands for the leading ones,
    also where these are given.
    """

    stop: int
    width: int
    columns: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        _at_least("a block's stop", self.stop, 1)
        _at_least("a block's width", self.width, 1)
        if self.columns is None:
            return
        for column in self.columns:
            _at_least("a block's column", column, 0)
        if any(before >= after for before, after in pairwise(self.columns)):
            raise ValueError(f"a block's columns are {self.columns}; give each once, ascending")
        if len(self.columns) != self.width:
            raise ValueError(
                f"a block of width {self.width} names {len(self.columns)} columns; name one for "
                "each number of a row"
            )
        if self.columns[-1] == self.width - 1:
            object.__setattr__(self, "columns", None)

    def within(self, columns: int) -> int:
        """Return how many of a row's numbers lie in the leading `columns` of the embedding."""
        if self.columns is None:
            return min(self.width, columns)
        return bisect_left(self.columns, columns)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; leading columns are not mentioned."""
        values: dict[str, Any] = {"stop": self.stop, "width": self.width}
        return values if self.columns is None else {**values, "columns": list(self.columns)}

    @classmethod
    def from_json(cls, values: Any) -> TableBlock:
        """Return the block that `to_json` wrote; ValueError for anything else."""
        if not isinstance(values, dict) or not {"stop", "width"} <= set(values) <= _BLOCK_KEYS:
            raise ValueError("table.blocks must hold objects of stop, width and perhaps columns")
        if "columns" not in values:
            return cls(values["stop"], values["width"])
        columns = values["columns"]
        if not isinstance(columns, list | tuple) or not columns:
            raise ValueError("a block's columns must be a list of at least one column")
        return cls(values["stop"], values["width"], tuple(columns))


def runs(columns: tuple[int, ...]) -> str:
    """Return ascending columns for a person, such as 0-3, 8, 12-15."""
    told, first = [], 0
    for place, column in enumerate(columns):
        if place + 1 < len(columns) and columns[place + 1] == column + 1:
            continue
        told.append(str(column) if place == first else f"{columns[first]}-{column}")
        first = place + 1
    return ", ".join(told)


@dataclass(frozen=True, slots=True)
class TableLayout:
    """Blocks by rising `stop`, the first from row 0, the last to the end of the table.

    `projected`: widths are ranks, which never rise, and each block narrower than the embedding
    has a projection (width, emb_width) that is learned; it serves input and, transposed, output.
    Otherwise a block holds `width` columns of the embedding, the leading ones where it names none,
    and the rest is zero.
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
        if self.projected and any(block.columns is not None for block in self.blocks):
            raise ValueError("a block that names its columns has no projection; leave out either")

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
        last = max((block.columns[-1] for block in self.blocks if block.columns), default=0)
        if last >= emb_width:
            raise ValueError(
                f"a block names column {last} of an embedding of {emb_width}; columns count from 0"
            )

    def for_rows(self, rows: int) -> TableLayout:
        """Return the same cuts for a table of another size: its last block grows or shrinks.

        Blocks that would begin beyond the end are left out.
        """
        kept = [block for block in self.blocks[:-1] if block.stop < rows]
        last = replace(self.blocks[len(kept)], stop=rows)
        return TableLayout((*kept, last), projected=self.projected)

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
                in_rows += size * block.within(columns)
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
            "blocks": [block.to_json() for block in self.blocks],
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
        return cls(tuple(map(TableBlock.from_json, blocks)), projected=values["projected"])


def dense_layout(rows: int, emb_width: int) -> TableLayout:
    """Return the layout of a table that is stored whole: one block, no projection."""
    return TableLayout((TableBlock(rows, emb_width),), projected=False)

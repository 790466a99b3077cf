"""The table's weights in a supernet and in a checkpoint: their names, shapes and first values."""

# E embedding width

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.table.layout import TableLayout
from models.table.table import ItemTable, TablePart, columns_of, whole_table

DENSE = "table"
"""The name of a table that is stored whole."""
BLOCKS = "table_blocks"


class BlockedTable(nn.Module):
    """The parameters of a table in blocks: `rows.i`, and `projections.i` where block i has one."""

    def __init__(self, layout: TableLayout, emb_width: int) -> None:
        super().__init__()
        self.layout = layout
        self.emb_width = emb_width
        # Not buffers: the layout says them, a state does not.
        self._columns = tuple(map(columns_of, layout.blocks))
        self.rows = nn.ParameterList(
            torch.empty(size, block.width)
            for size, block in zip(layout.sizes, layout.blocks, strict=True)
        )
        self.projections = nn.ParameterDict(
            {
                str(place): nn.Parameter(torch.empty(block.width, emb_width))
                for place, block in enumerate(layout.blocks)
                if layout.projects(block, emb_width)
            }
        )

    def initialise(self, generator: torch.Generator) -> None:
        """Draw fresh weights: every embedding has a length of about one, padding's is zero.

        A prefix is as long as the same columns of a table that is stored whole.
        """
        with torch.no_grad():
            for place, rows_NR in enumerate(self.rows):
                projected = str(place) in self.projections
                width = rows_NR.shape[1] if projected else self.emb_width
                nn.init.normal_(rows_NR, std=1 / math.sqrt(width), generator=generator)
                if projected:
                    nn.init.normal_(
                        self.projections[str(place)],
                        std=1 / math.sqrt(self.emb_width),
                        generator=generator,
                    )
            self.rows[0][0] = 0.0

    def table(self) -> ItemTable:
        """Return the table of these parameters."""
        names = self.projections
        return ItemTable(
            tuple(
                TablePart(start, rows_NR, names.get(str(place)), columns_R)
                for place, (start, rows_NR, columns_R) in enumerate(
                    zip(self.layout.starts, self.rows, self._columns, strict=True)
                )
            ),
            self.emb_width,
        )


def table_of(state: Mapping[str, Tensor], layout: TableLayout | None, emb_width: int) -> ItemTable:
    """Return the table in a supernet's state; `layout` None for one that is stored whole."""
    if layout is None:
        return whole_table(state[DENSE])
    return ItemTable(
        tuple(
            TablePart(
                start,
                state[f"{BLOCKS}.rows.{place}"],
                state.get(f"{BLOCKS}.projections.{place}"),
                columns_of(block),
            )
            for place, (start, block) in enumerate(zip(layout.starts, layout.blocks, strict=True))
        ),
        emb_width,
    )


def is_table(name: str) -> bool:
    """Whether a supernet's tensor of this name is a part of its item table."""
    return name == DENSE or name.startswith(f"{BLOCKS}.")


def table_state(table: ItemTable, *, blocked: bool) -> dict[str, Tensor]:
    """Return the table's part of a supernet's state, the inverse of `table_of`; contiguous."""
    if not blocked:
        return {DENSE: table.dense().contiguous()}
    state = {}
    for place, part in enumerate(table.parts):
        state[f"{BLOCKS}.rows.{place}"] = part.rows_NR.contiguous()
        if part.projection_RE is not None:
            state[f"{BLOCKS}.projections.{place}"] = part.projection_RE.contiguous()
    return state

"""What sparse training of units leaves of an item table: row blocks, each as wide as it lives."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from models.supernet import Supernet
from models.table.layout import TableBlock, TableLayout
from models.table.parameters import is_table, table_state
from training.sparse.blocks import row_edges


@torch.no_grad()
def packed(supernet: Supernet, row_blocks: int) -> Supernet:
    """Return the same network with a whole table cut to its row blocks' living columns.

    Every submodel scores as before. Neighbouring blocks of one width become one. A table that
    stands in blocks already, or has no column to lose, stays as it is.
    """
    config = supernet.config
    if config.table is not None:
        return supernet
    layout = layout_of(supernet.item_table.dense().detach(), row_blocks)
    if len(layout.blocks) == 1 and layout.blocks[0].width == config.emb_width:
        return supernet
    state = {name: one for name, one in supernet.state_dict().items() if not is_table(name)}
    state |= table_state(supernet.item_table.cut(layout).contiguous(), blocked=True)
    small = Supernet(replace(config, table=layout))
    small.load_state_dict(state)
    return small


def layout_of(table_VE: Tensor, row_blocks: int) -> TableLayout:
    """Return the widths that living columns have, neighbouring blocks of one width as one."""
    columns = torch.arange(1, table_VE.shape[1] + 1)
    edges = row_edges(len(table_VE), row_blocks)
    blocks: list[TableBlock] = []
    for begin, end in pairwise(edges):
        width = int(((table_VE[begin:end] != 0).any(0) * columns).max())
        block = TableBlock(end, max(1, width))
        if blocks and blocks[-1].width == block.width:
            blocks.pop()
        blocks.append(block)
    return TableLayout(tuple(blocks), projected=False)

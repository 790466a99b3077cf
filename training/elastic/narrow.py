"""Narrow a whole table: some columns, scaled and shifted so that wide and narrow rows compare.

A row that loses columns loses spread of its scores, and would lose its places in every top 10 (or
gain them) to rows that keep more. So each group has, for each width, a scale of its rows and a
bias of its scores, learned with the table. Both disappear into the rows and the item bias: what is
served is a plain table.
"""

# V catalog rows with padding, E embedding width, G item groups, W widths, N rows, R their numbers

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from models.checkpoint.elastic import ElasticEntry
from models.table.layout import TableLayout
from models.table.table import ItemTable, TablePart
from training.elastic.config import Choice, ElasticConfig, Orders


@dataclass(frozen=True, slots=True, kw_only=True)
class Narrowing:
    """How to narrow: scale_GW float32 (logarithms) and bias_GW float32, 0 in the last column."""

    elastic: ElasticConfig
    scale_GW: Tensor
    bias_GW: Tensor

    def ordered(self, orders: Orders) -> Narrowing:
        """Return the same with each group's own order of blocks; see `ElasticConfig`."""
        return replace(self, elastic=replace(self.elastic, orders=orders))

    def __call__(
        self, table: ItemTable, item_bias_V: Tensor, choice_G: Choice
    ) -> tuple[ItemTable, Tensor]:
        """Return the narrowed table, a part for each group, and its item bias; differentiable.

        Groups at the whole width are views. `table` must be stored whole.
        """
        assert table.is_dense, "only a table that is stored whole can be narrowed"
        # Split, not sliced: the gradient of the whole is then put together once.
        groups = torch.split(table.parts[0].rows_NR, self.elastic.sizes.tolist())
        parts = []
        for group, (start, rows_NE) in enumerate(zip(self.elastic.starts, groups, strict=True)):
            place = int(choice_G[group])
            columns, columns_R = self.elastic.columns(group, place), None
            if columns is None:
                rows_NR = rows_NE[:, : self.elastic.widths[place]]
            else:
                columns_R = torch.tensor(columns)
                rows_NR = rows_NE.index_select(1, columns_R)
            if place < len(self.elastic.widths) - 1:
                rows_NR = rows_NR * self.scale_GW[group, place].exp()
            parts.append(TablePart(start, rows_NR, columns_R=columns_R))
        shift_G = self.bias_GW[torch.arange(len(choice_G)), torch.from_numpy(choice_G)]
        shift_V = shift_G.repeat_interleave(torch.from_numpy(self.elastic.sizes))
        return ItemTable(tuple(parts), table.emb_width), item_bias_V + shift_V


class Calibration(nn.Module):
    """The learned scales and biases of every width but the whole one; they start at 0.

    `turn_EE` float32 is how the columns are turned before they are cut; see `turn.py`.
    """

    turn_EE: Tensor

    def __init__(self, elastic: ElasticConfig) -> None:
        super().__init__()
        self.elastic = elastic
        narrower = len(elastic.stops), len(elastic.widths) - 1
        self.scale = nn.Parameter(torch.zeros(narrower))
        self.bias = nn.Parameter(torch.zeros(narrower))
        self.register_buffer("turn_EE", torch.eye(elastic.widths[-1]))

    def narrowing(self) -> Narrowing:
        """Return how to narrow with these parameters; differentiable."""
        whole = torch.zeros(len(self.elastic.stops), 1)
        return Narrowing(
            elastic=self.elastic,
            scale_GW=torch.cat([self.scale, whole], 1),
            bias_GW=torch.cat([self.bias, whole], 1),
        )


def narrowing_of(entry: ElasticEntry) -> Narrowing:
    """Return how a checkpoint's table is narrowed."""
    return Narrowing(
        elastic=ElasticConfig(
            stops=entry.stops, widths=entry.widths, blocks=entry.blocks, orders=entry.orders
        ),
        scale_GW=torch.tensor(entry.scale, dtype=torch.float32),
        bias_GW=torch.tensor(entry.bias, dtype=torch.float32),
    )


def merged(table: ItemTable, layout: TableLayout) -> ItemTable:
    """Return a narrowed table in the blocks of `layout`, each of them one or more whole parts."""
    parts = []
    for start, block in zip(layout.starts, layout.blocks, strict=True):
        inside = [part for part in table.parts if start <= part.start < block.stop]
        rows_NR = torch.cat([part.rows_NR for part in inside])
        parts.append(TablePart(start, rows_NR, columns_R=inside[0].columns_R))
    return ItemTable(tuple(parts), table.emb_width)

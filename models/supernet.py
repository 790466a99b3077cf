"""The supernet: one set of weights whose leading slices are every submodel of the grid."""

# V catalog rows with padding, L longest history, E embedding width, D hidden width; lower case
# e, d: the slice's sizes

from __future__ import annotations

import math

import torch
from torch import nn

from models.backbone.registry import backbone_of
from models.config import Submodel, SupernetConfig
from models.network import NetworkWeights
from models.table.parameters import BlockedTable
from models.table.table import ItemTable, whole_table
from models.table.tokens import BlockTokens


class Supernet(nn.Module):
    """All weights of one supernet; `slice` gives any submodel as views without copying tables.

    Scores of submodel s are `query_s . table + item_bias + memory_gain_s * memory`, with
    `config.two_level` shifted by block (`models/table/tokens.py`). The table is tied: the same
    prefix of `emb_width` columns feeds the body and scores the catalog. With `config.table` it
    stands in blocks (`table_blocks`), else whole (`table`); `item_table` is either.
    """

    table: nn.Parameter
    table_blocks: BlockedTable
    block_tokens: nn.Parameter
    block_token_bias: nn.Parameter

    def __init__(self, config: SupernetConfig) -> None:
        super().__init__()
        self.config = config
        if config.table is None:
            self.table = nn.Parameter(torch.empty(config.rows, config.emb_width))
        else:
            self.table_blocks = BlockedTable(config.table, config.emb_width)
        self.item_bias = nn.Parameter(torch.zeros(config.rows))
        if config.two_level:
            self.block_tokens = nn.Parameter(torch.empty(config.tail_blocks, config.emb_width))
            self.block_token_bias = nn.Parameter(torch.zeros(config.tail_blocks))
        backbone = backbone_of(config)
        self.positions: nn.Parameter | None = None
        if backbone.has_positions:
            self.positions = nn.Parameter(torch.empty(config.max_length, config.emb_width))
        self.input_weight = nn.Parameter(torch.empty(config.width, config.emb_width))
        self.input_bias = nn.Parameter(torch.zeros(config.width))
        self.blocks = backbone.blocks(config)
        self.norm_weight = nn.Parameter(torch.ones(config.width))
        self.norm_bias = nn.Parameter(torch.zeros(config.width))
        self.output_weight = nn.Parameter(torch.empty(config.emb_width, config.width))
        self.output_bias = nn.Parameter(torch.zeros(config.emb_width))
        grid = (len(config.depths), len(config.widths), len(config.emb_widths))
        self.memory_gain = nn.Parameter(torch.ones(grid))

    def initialise(self, generator: torch.Generator) -> None:
        """Draw fresh weights from `generator`; scores start with a spread of about one."""
        spread = 1 / math.sqrt(self.config.emb_width)
        with torch.no_grad():
            if self.config.table is None:
                nn.init.normal_(self.table, std=spread, generator=generator)
                self.table[0] = 0.0
            else:
                self.table_blocks.initialise(generator)
            if self.positions is not None:
                nn.init.normal_(self.positions, std=spread, generator=generator)
            if self.config.two_level:
                nn.init.normal_(self.block_tokens, std=spread, generator=generator)
            nn.init.xavier_normal_(self.input_weight, generator=generator)
            nn.init.xavier_normal_(self.output_weight, generator=generator)
            self.blocks.initialise(generator)

    @property
    def item_table(self) -> ItemTable:
        """The item table of these parameters."""
        if self.config.table is not None:
            return self.table_blocks.table()
        return whole_table(self.table)

    @property
    def tokens(self) -> BlockTokens | None:
        """The tail blocks' tokens of these parameters, where there are two levels."""
        if not self.config.two_level:
            return None
        return BlockTokens(self.block_tokens, self.block_token_bias)

    def slice(self, submodel: Submodel) -> NetworkWeights:
        """Return the submodel's weights as differentiable views of the supernet.

        ValueError when `submodel` is not on the grid.
        """
        config = self.config
        try:
            place = (
                config.depths.index(submodel.depth),
                config.widths.index(submodel.width),
                config.emb_widths.index(submodel.emb_width),
            )
        except ValueError:
            raise ValueError(
                f"submodel {submodel.name} is not on the grid: depths {config.depths}, "
                f"widths {config.widths}, embedding widths {config.emb_widths}"
            ) from None
        d, e = submodel.width, submodel.emb_width
        tokens = self.tokens
        return NetworkWeights(
            submodel=submodel,
            table=self.item_table.slice(e),
            item_bias_V=self.item_bias,
            positions_LE=None if self.positions is None else self.positions[:, :e],
            input_weight_DE=self.input_weight[:d, :e],
            input_bias_D=self.input_bias[:d],
            layers=self.blocks.slice(submodel.depth, d),
            norm_weight_D=self.norm_weight[:d],
            norm_bias_D=self.norm_bias[:d],
            output_weight_ED=self.output_weight[:e, :d],
            output_bias_E=self.output_bias[:e],
            memory_gain=self.memory_gain[place],
            tokens=None if tokens is None else tokens.slice(e),
        )

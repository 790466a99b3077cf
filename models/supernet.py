"""The supernet: one set of weights whose leading slices are every submodel of the grid.

Widths nest inside each head (CANet slices across heads, which trains one network and serves
another), so a narrow submodel's head reads the leading rows of the full network's same head.
"""

# V catalog rows with padding, L longest history, E embedding width, D hidden width, H heads,
# K head width, F feed-forward; lower case e, d, k, f: the slice's sizes

from __future__ import annotations

import math

import torch
from torch import nn

from models.config import Submodel, SupernetConfig
from models.network import BlockWeights, NetworkWeights
from models.table.parameters import BlockedTable
from models.table.table import ItemTable, whole_table


class Supernet(nn.Module):
    """All weights of one supernet; `slice` gives any submodel as views without copying tables.

    Scores of submodel s are `query_s . table + item_bias + memory_gain_s * memory`. The table
    is tied: the same prefix of `emb_width` columns feeds the body and scores the catalog. With
    `config.table` it stands in blocks (`table_blocks`), else whole (`table`); `item_table` is
    either.
    """

    table: nn.Parameter
    table_blocks: BlockedTable

    def __init__(self, config: SupernetConfig) -> None:
        super().__init__()
        self.config = config
        if config.table is None:
            self.table = nn.Parameter(torch.empty(config.rows, config.emb_width))
        else:
            self.table_blocks = BlockedTable(config.table, config.emb_width)
        self.item_bias = nn.Parameter(torch.zeros(config.rows))
        self.positions = nn.Parameter(torch.empty(config.max_length, config.emb_width))
        self.input_weight = nn.Parameter(torch.empty(config.width, config.emb_width))
        self.input_bias = nn.Parameter(torch.zeros(config.width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
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
            nn.init.normal_(self.positions, std=spread, generator=generator)
            nn.init.xavier_normal_(self.input_weight, generator=generator)
            nn.init.xavier_normal_(self.output_weight, generator=generator)
            for block in self.blocks:
                assert isinstance(block, Block)
                block.initialise(generator)

    @property
    def item_table(self) -> ItemTable:
        """The item table of these parameters."""
        if self.config.table is not None:
            return self.table_blocks.table()
        return whole_table(self.table)

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
        blocks = []
        for block in self.blocks[: submodel.depth]:
            assert isinstance(block, Block)
            blocks.append(block.slice(d))
        return NetworkWeights(
            submodel=submodel,
            num_heads=config.num_heads,
            table=self.item_table.slice(e),
            item_bias_V=self.item_bias,
            positions_LE=self.positions[:, :e],
            input_weight_DE=self.input_weight[:d, :e],
            input_bias_D=self.input_bias[:d],
            blocks=tuple(blocks),
            norm_weight_D=self.norm_weight[:d],
            norm_bias_D=self.norm_bias[:d],
            output_weight_ED=self.output_weight[:e, :d],
            output_bias_E=self.output_bias[:e],
            memory_gain=self.memory_gain[place],
        )


class Block(nn.Module):
    """One layer's full weights. Rows of `qkv` and columns of `out` are grouped by head."""

    def __init__(self, config: SupernetConfig) -> None:
        super().__init__()
        width, heads = config.width, config.num_heads
        inner = config.ffn_multiplier * width
        self.ffn_multiplier = config.ffn_multiplier
        self.norm_attention_weight = nn.Parameter(torch.ones(width))
        self.norm_attention_bias = nn.Parameter(torch.zeros(width))
        self.qkv_weight = nn.Parameter(torch.empty(3, heads, width // heads, width))
        self.qkv_bias = nn.Parameter(torch.zeros(3, heads, width // heads))
        self.out_weight = nn.Parameter(torch.empty(width, heads, width // heads))
        self.out_bias = nn.Parameter(torch.zeros(width))
        self.norm_ffn_weight = nn.Parameter(torch.ones(width))
        self.norm_ffn_bias = nn.Parameter(torch.zeros(width))
        self.ffn_in_weight = nn.Parameter(torch.empty(inner, width))
        self.ffn_in_bias = nn.Parameter(torch.zeros(inner))
        self.ffn_out_weight = nn.Parameter(torch.empty(width, inner))
        self.ffn_out_bias = nn.Parameter(torch.zeros(width))
        self.attention_gain = nn.Parameter(torch.ones(()))
        self.ffn_gain = nn.Parameter(torch.ones(()))

    def initialise(self, generator: torch.Generator) -> None:
        """Draw fresh projections; the layer starts close to the identity."""
        width = self.out_bias.numel()
        nn.init.normal_(self.qkv_weight, std=width**-0.5, generator=generator)
        nn.init.normal_(self.out_weight, std=0.5 * width**-0.5, generator=generator)
        nn.init.xavier_normal_(self.ffn_in_weight, generator=generator)
        nn.init.xavier_normal_(self.ffn_out_weight, gain=0.5, generator=generator)

    def slice(self, width: int) -> BlockWeights:
        """Return the layer at `width`, nested inside each head on both sides of attention."""
        heads = self.qkv_weight.shape[1]
        k, f = width // heads, self.ffn_multiplier * width
        return BlockWeights(
            norm_attention_weight_D=self.norm_attention_weight[:width],
            norm_attention_bias_D=self.norm_attention_bias[:width],
            qkv_weight_3DD=self.qkv_weight[:, :, :k, :width].reshape(3 * width, width),
            qkv_bias_3D=self.qkv_bias[:, :, :k].reshape(3 * width),
            out_weight_DD=self.out_weight[:width, :, :k].reshape(width, width),
            out_bias_D=self.out_bias[:width],
            norm_ffn_weight_D=self.norm_ffn_weight[:width],
            norm_ffn_bias_D=self.norm_ffn_bias[:width],
            ffn_in_weight_FD=self.ffn_in_weight[:f, :width],
            ffn_in_bias_F=self.ffn_in_bias[:f],
            ffn_out_weight_DF=self.ffn_out_weight[:width, :f],
            ffn_out_bias_D=self.ffn_out_bias[:width],
            attention_gain=self.attention_gain,
            ffn_gain=self.ffn_gain,
        )

"""Which weights of a supernet compete with which."""

from __future__ import annotations

from math import gcd

from torch import Tensor

from models.backbone.nextitnet.reach import TAPS
from models.config import SupernetConfig
from models.supernet import Supernet
from models.table.parameters import BLOCKS, DENSE
from training.sparse.blocks import BlockPool
from training.sparse.channels import ChannelPool
from training.sparse.config import SparseConfig
from training.sparse.element import ElementPool
from training.sparse.pool import Pool

Edges = tuple[tuple[int, ...], ...]


def make_pools(supernet: Supernet, config: SparseConfig) -> list[Pool]:
    """Return the pools of every weight that may die; norms, biases and positions are in none.

    A table that stands in blocks already has no units: there, those of the layers alone die.
    """
    tensors = {name: one.detach() for name, one in supernet.named_parameters()}
    if config.granularity == "unit":
        return _units(supernet.config, tensors, config)
    return [
        ElementPool(name, tensor, config.density, edges, first=_first(name))
        for name, tensor in tensors.items()
        if (edges := _edges(name, tensor, supernet.config)) is not None
    ]


def _first(name: str) -> tuple[int, int] | None:
    """Return where the boxes begin: after padding's row in a table."""
    return (1, 0) if name in {DENSE, f"{BLOCKS}.rows.0"} else None


def _edges(name: str, tensor: Tensor, grid: SupernetConfig) -> Edges | None:
    """Return where the boxes of a weight end, None for what is no weight."""
    width, emb = grid.widths, grid.emb_widths
    if name == DENSE:
        return (len(tensor),), emb
    if name.startswith(f"{BLOCKS}.rows."):
        assert grid.table is not None
        block = grid.table.blocks[int(name.rsplit(".", 1)[-1])]
        kept = sorted({block.within(one) for one in emb} - {0})
        return (len(tensor),), (block.width,) if grid.table.projected else tuple(kept)
    if name.startswith(f"{BLOCKS}.projections."):
        return (len(tensor),), emb
    head = tuple(one // grid.num_heads for one in width)
    inner = _inner(grid)
    known: dict[str, Edges] = {
        "input_weight": (width, emb),
        "output_weight": (emb, width),
        "qkv_weight": ((3,), (grid.num_heads,), head, width),
        "out_weight": (width, (grid.num_heads,), head),
        "ffn_in_weight": (inner, width),
        "ffn_out_weight": (width, inner),
        "weight": (width, (TAPS,), width),  # a kernel of NextItNet's
    }
    return known.get(name.rsplit(".", 1)[-1])


def _units(grid: SupernetConfig, tensors: dict[str, Tensor], config: SparseConfig) -> list[Pool]:
    pools: list[Pool] = []
    if DENSE in tensors:
        pools.append(
            BlockPool(
                DENSE,
                tensors[DENSE],
                config.density,
                row_blocks=config.row_blocks,
                column_block=gcd(config.column_block, *grid.emb_widths),
            )
        )
    for place in range(grid.depth):
        layer = f"blocks.{place}."
        if layer + "ffn_out_weight" not in tensors:  # it runs another layer's, or is no such layer
            continue
        pools += [
            ChannelPool(
                writes=(layer + "ffn_out_weight", 1),
                reads=((layer + "ffn_in_weight", 0),),
                biases=((layer + "ffn_in_bias", 0),),
                density=config.density,
                edges=_inner(grid),
            ),
            ChannelPool(
                writes=(layer + "out_weight", 1),
                reads=((layer + "qkv_weight", 1),),
                biases=((layer + "qkv_bias", 1),),
                density=config.density,
                edges=(grid.num_heads,),
            ),
        ]
    return pools


def _inner(grid: SupernetConfig) -> tuple[int, ...]:
    return tuple(grid.ffn_multiplier * width for width in grid.widths)

"""Cut one submodel out of the supernet as a plain, contiguous network."""

from __future__ import annotations

from dataclasses import fields, replace

import torch
from torch import Tensor

from models.config import Submodel
from models.network import BlockWeights, NetworkWeights
from models.supernet import Supernet
from models.table.table import ItemTable


def extract(
    supernet: Supernet, submodel: Submodel, *, tables: dict[int, ItemTable] | None = None
) -> NetworkWeights:
    """Return detached contiguous float32 weights that answer exactly like the slice (to 1e-5).

    Residual gains are folded into the projections they scale. Submodels that share an
    embedding width share one table when they are given the same `tables` (emb_width -> its
    table, contiguous), which is filled as needed; the widest table, the item bias and whatever a
    narrower table has in common with it are always the supernet's own memory.
    """
    tables = {} if tables is None else tables
    with torch.no_grad():
        weights = supernet.slice(submodel)
        if submodel.emb_width not in tables:
            tables[submodel.emb_width] = weights.table.detach().contiguous()
        return NetworkWeights(
            submodel=submodel,
            num_heads=weights.num_heads,
            table=tables[submodel.emb_width],
            item_bias_V=weights.item_bias_V.detach(),
            positions_LE=_copy(weights.positions_LE),
            input_weight_DE=_copy(weights.input_weight_DE),
            input_bias_D=_copy(weights.input_bias_D),
            blocks=tuple(_extract_block(block) for block in weights.blocks),
            norm_weight_D=_copy(weights.norm_weight_D),
            norm_bias_D=_copy(weights.norm_bias_D),
            output_weight_ED=_copy(weights.output_weight_ED),
            output_bias_E=_copy(weights.output_bias_E),
            memory_gain=_copy(weights.memory_gain),
        )


def _extract_block(block: BlockWeights) -> BlockWeights:
    copied = BlockWeights(**{f.name: _copy(getattr(block, f.name)) for f in fields(block)})
    return replace(
        copied,
        out_weight_DD=copied.out_weight_DD * copied.attention_gain,
        out_bias_D=copied.out_bias_D * copied.attention_gain,
        ffn_out_weight_DF=copied.ffn_out_weight_DF * copied.ffn_gain,
        ffn_out_bias_D=copied.ffn_out_bias_D * copied.ffn_gain,
        attention_gain=torch.ones(()),
        ffn_gain=torch.ones(()),
    )


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().clone(memory_format=torch.contiguous_format)

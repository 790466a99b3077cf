"""Cut one submodel out of the supernet as a plain, contiguous network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from models.backbone.copies import contiguous, copied, own_tensors
from models.config import Submodel
from models.network import NetworkWeights
from models.supernet import Supernet
from models.table.table import ItemTable


def extract(
    supernet: Supernet, submodel: Submodel, *, tables: dict[int, ItemTable] | None = None
) -> NetworkWeights:
    """Return detached contiguous float32 weights that answer exactly like the slice (to 1e-5).

    Attention heads and feed-forward channels that write nothing, as sparse training leaves them,
    are left out. A kernel that layers share is copied once. Submodels that share an embedding
    width share one table when they are given the same `tables` (emb_width -> its table,
    contiguous), which is filled as needed; the widest table, the item bias and whatever a narrower
    table has in common with it are always the supernet's own memory.
    """
    tables = {} if tables is None else tables
    with torch.no_grad():
        weights = supernet.slice(submodel)
        if submodel.emb_width not in tables:
            tables[submodel.emb_width] = weights.table.detach().contiguous()
        ends = own_tensors(weights)
        del ends["item_bias_V"]
        copies: dict[str, Any] = {name: contiguous(tensor) for name, tensor in ends.items()}
        return replace(
            weights,
            **copies,
            table=tables[submodel.emb_width],
            item_bias_V=weights.item_bias_V.detach(),
            layers=weights.layers.extracted(),
            tokens=None if weights.tokens is None else copied(weights.tokens),
        )

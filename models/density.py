"""How much of a supernet's weights is there: what sparse training leaves at zero is not."""

from __future__ import annotations

import torch

from models.supernet import Supernet
from models.table.parameters import BLOCKS, DENSE


@torch.no_grad()
def density(supernet: Supernet) -> float:
    """Return the share of weights that are not exactly 0, in 0..1.

    Weights are those of the item table (padding's row aside) and of every projection and kernel;
    norms, biases, gains and positions do not count. Columns that a table's blocks have not
    stored count as zeros.
    """
    layout, width = supernet.config.table, supernet.config.emb_width
    there = total = 0
    for name, tensor in supernet.named_parameters():
        if not is_weight(name):
            continue
        there += int(torch.count_nonzero(tensor))
        prefix = name.startswith(f"{BLOCKS}.rows.") and layout is not None and not layout.projected
        total += len(tensor) * width if prefix else tensor.numel()
    padding = supernet.item_table.parts[0].width if layout and layout.projected else width
    return there / (total - padding)


def is_weight(name: str) -> bool:
    """Whether the supernet's parameter called `name` is a table, a projection or a kernel."""
    last = name.rsplit(".", 1)[-1]
    kernel = last == "weight" or (last.endswith("_weight") and not last.startswith("norm"))
    return kernel or name == DENSE or name.startswith(f"{BLOCKS}.")

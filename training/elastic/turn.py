"""Turn the embedding's columns so that the leading ones hold most of what rows differ in.

Scores and states depend on rows through products alone, so that an orthonormal turn of the
columns, undone in what reads and writes embeddings, leaves every network as it is. What a prefix of
the columns is worth depends on it entirely: left alone, training spreads what rows differ in over
all columns alike.
"""

# V catalog rows with padding, E embedding width

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

# Which axis of a parameter runs over the embedding's columns.
_AXES = {"table": 1, "positions": 1, "input_weight": 1, "output_weight": 0, "output_bias": 0}


def principal_turn(table_VE: Tensor, weight_V: Tensor, emb_widths: tuple[int, ...]) -> Tensor:
    """Return the (E, E) float32 turn, orthonormal, whose columns are axes of falling spread.

    Rows count by `weight_V`. Columns are turned between one of `emb_widths` and the next only, so
    that every submodel keeps its own.
    """
    spread_EE = (table_VE.double().T * weight_V.double()) @ table_VE.double()
    turn_EE = torch.zeros_like(spread_EE)
    start = 0
    for stop in emb_widths:
        _, axes = torch.linalg.eigh(spread_EE[start:stop, start:stop])
        axes = axes.flip(1)
        # Towards the axis that is there: turns of a trained table come close to none.
        places = axes.abs().argmax(0)
        axes = axes * axes[places, torch.arange(len(places))].sign()
        turn_EE[start:stop, start:stop] = axes
        start = stop
    return turn_EE.float()


@torch.no_grad()
def turned(named: Mapping[str, Tensor], turn_EE: Tensor) -> dict[str, Tensor]:
    """Return those of the tensors that run over embedding columns, turned."""
    return {
        name: tensor @ turn_EE if _AXES[name] else turn_EE.T @ tensor
        for name, tensor in named.items()
        if name in _AXES
    }

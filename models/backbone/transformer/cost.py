"""What the Transformer's layers cost when only the newest position's output is needed."""

from __future__ import annotations

from models.config import Submodel, SupernetConfig


def reads(config: SupernetConfig, submodel: Submodel, length: int) -> int:
    """Return how many positions are embedded: all of them."""
    del config, submodel
    return length


def flops(config: SupernetConfig, submodel: Submodel, length: int) -> int:
    """Return the layers' FLOPs for one history padded to `length`.

    The last layer attends from the newest position only, its projections folded.
    """
    d, f = submodel.width, config.ffn_multiplier * submodel.width
    across = config.num_heads * d
    inner_layer = 2 * length * (3 * d * d + d * d + 2 * d * f) + 4 * length * length * d
    last_layer = 2 * (2 * d * across + 2 * d * f) + 4 * length * across
    return (submodel.depth - 1) * inner_layer + last_layer


def parameters(config: SupernetConfig, submodel: Submodel) -> int:
    """Return the layers' parameters: norms and gains of each, every kernel once."""
    d, f = submodel.width, config.ffn_multiplier * submodel.width
    kernel = 3 * d * d + 3 * d + d * d + d + 2 * d * f + f + d
    kernels = len(set(config.layer_plan[: submodel.depth]))
    return submodel.depth * (4 * d + 2) + kernels * kernel

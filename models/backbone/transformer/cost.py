"""What the Transformer's layers cost when only the newest position's output is needed."""

from __future__ import annotations

from collections.abc import Sequence

from models.config import Submodel, SupernetConfig


def window(config: SupernetConfig, submodel: Submodel) -> int:
    """Return how many of the newest items matter: all that the network can read."""
    del submodel
    return config.max_length


def reads(config: SupernetConfig, submodel: Submodel, length: int) -> int:
    """Return how many positions are embedded: all of them."""
    del config, submodel
    return length


def flops(config: SupernetConfig, submodel: Submodel, length: int) -> int:
    """Return the layers' FLOPs for one history padded to `length`, nothing left out of them."""
    d, f = submodel.width, config.ffn_multiplier * submodel.width
    return flops_of(d, d // config.num_heads, [(d, f)] * submodel.depth, length)


def flops_of(width: int, head_width: int, layers: Sequence[tuple[int, int]], length: int) -> int:
    """Return the FLOPs of layers of (columns of all heads, feed-forward channels) each.

    The last layer attends from the newest position only, its projections folded.
    """
    total = 0
    for attended, inner in layers[:-1]:
        total += 2 * length * (4 * width * attended + 2 * width * inner)
        total += 4 * length * length * attended
    attended, inner = layers[-1]
    across = attended // head_width * width
    return total + 2 * (2 * width * across + 2 * width * inner) + 4 * length * across


def parameters(config: SupernetConfig, submodel: Submodel) -> int:
    """Return the layers' parameters: norms and gains of each, every kernel once."""
    d, f = submodel.width, config.ffn_multiplier * submodel.width
    kernel = 3 * d * d + 3 * d + d * d + d + 2 * d * f + f + d
    kernels = len(set(config.layer_plan[: submodel.depth]))
    return submodel.depth * (4 * d + 2) + kernels * kernel

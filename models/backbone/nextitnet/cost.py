"""What NextItNet's layers cost when only the newest position's output is needed."""

from __future__ import annotations

from models.backbone.nextitnet.reach import TAPS, Reach, block_dilations, reach
from models.config import Submodel, SupernetConfig


def window(config: SupernetConfig, submodel: Submodel) -> int:
    """Return how many of the newest items matter, `config.max_length` at most."""
    return int(_reach(config, submodel, config.max_length).offsets_N[-1]) + 1


def reads(config: SupernetConfig, submodel: Submodel, length: int) -> int:
    """Return how many positions the newest output depends on."""
    return len(_reach(config, submodel, length).offsets_N)


def flops(config: SupernetConfig, submodel: Submodel, length: int) -> int:
    """Return the layers' FLOPs for one history padded to `length`."""
    return flops_of(_reach(config, submodel, length), submodel.width)


def flops_of(found: Reach, width: int) -> int:
    """Return the FLOPs of convolutions of `width` channels.

    Each is charged where it is computed, all three taps, also those that meet nothing.
    """
    return 2 * int(found.counts.sum()) * TAPS * width**2


def parameters(config: SupernetConfig, submodel: Submodel) -> int:
    """Return the layers' parameters: every norm, every kernel once."""
    d, layers = submodel.width, 2 * submodel.depth
    kernels = len(set(config.layer_plan[:layers]))
    return layers * 2 * d + kernels * (TAPS * d * d + d)


def _reach(config: SupernetConfig, submodel: Submodel, length: int) -> Reach:
    return reach(block_dilations(config.dilations, submodel.depth), length)

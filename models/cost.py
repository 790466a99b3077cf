"""What a request costs: FLOPs of router, encoder and catalog scoring, and bytes of weights.

One multiply-add counts as two FLOPs. Counted are matrix products and attention, as torch's own
counter does, plus the entries of the transition memory that are read; element-wise work is not.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.backbone.contract import Layers
from models.backbone.registry import backbone_of
from models.config import Submodel, SupernetConfig
from models.table.layout import FLOAT_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """FLOPs of one request by part."""

    router: int
    encoder: int
    scoring: int

    @property
    def total(self) -> int:
        """The sum of all parts."""
        return self.router + self.encoder + self.scoring


def encoder_flops(
    config: SupernetConfig, submodel: Submodel, length: int, layers: Layers | None = None
) -> int:
    """Return the FLOPs of a body (`models/body.py`) for one history padded to `length`.

    Charged is what it reads of it, and what the newest position's output depends on. Where the
    item table has projections, every item is charged the dearest. `layers` are the submodel's own,
    where something may have been left out of them.
    """
    length, backbone = submodel.reads(length), backbone_of(config)
    d, e = submodel.width, submodel.emb_width
    looked_up = min(length, backbone.window(config, submodel))
    lookup = 2 * looked_up * config.layout.embed_multiply_adds(config.emb_width, e)
    ends = 2 * backbone.reads(config, submodel, length) * e * d + 2 * d * e
    inside = backbone.flops(config, submodel, length) if layers is None else layers.flops(length)
    return lookup + ends + inside


def scoring_flops(config: SupernetConfig, submodel: Submodel, memory_flops: int = 0) -> int:
    """Return the FLOPs of scoring the whole catalog, padding's row included, and block tokens.

    `memory_flops` is `TransitionMemory.flops` for it: the most that its entries can cost.
    """
    table = sum(config.layout.parameters(config.emb_width, submodel.emb_width))
    return 2 * (table + config.tail_blocks * submodel.emb_width) + memory_flops


def router_flops(features: int, hidden: int, num_submodels: int, memory_flops: int = 0) -> int:
    """Return the FLOPs of routing one history.

    `memory_flops` is `Surprise.flops` where the router is told of the memory's surprise.
    """
    return 2 * (features * hidden + hidden * num_submodels) + memory_flops


def full_cost(
    config: SupernetConfig, length: int, memory_flops: int = 0, layers: Layers | None = None
) -> Cost:
    """Return what the full network alone would spend: no router is needed for it."""
    return Cost(
        router=0,
        encoder=encoder_flops(config, config.largest, length, layers),
        scoring=scoring_flops(config, config.largest, memory_flops),
    )


def parameter_counts(config: SupernetConfig, submodel: Submodel) -> dict[str, int]:
    """Return the parameters a submodel reads: `table` (with item bias) and `body`.

    A kernel that layers share is counted once.
    """
    d, e, backbone = submodel.width, submodel.emb_width, backbone_of(config)
    positions = config.max_length * e if backbone.has_positions else 0
    tokens = config.tail_blocks * (e + 1)
    ends = positions + d * e + d + 2 * d + e * d + e + 1 + tokens
    return {
        "table": sum(config.layout.parameters(config.emb_width, e)) + config.rows,
        "body": backbone.parameters(config, submodel) + ends,
    }


def weight_bytes(config: SupernetConfig, submodel: Submodel) -> int:
    """Return the float32 bytes of table, item bias and body that one submodel reads."""
    return FLOAT_BYTES * sum(parameter_counts(config, submodel).values())

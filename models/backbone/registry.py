"""The backbones by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from models.backbone.contract import Backbone
from models.backbone.nextitnet import cost as nextitnet_cost
from models.backbone.nextitnet.blocks import NextItNetBlocks
from models.backbone.transformer import cost as transformer_cost
from models.backbone.transformer.blocks import TransformerBlocks
from models.config import SupernetConfig

BACKBONES: Mapping[str, Backbone] = MappingProxyType(
    {
        "transformer": Backbone(
            blocks=TransformerBlocks,
            has_positions=True,
            window=transformer_cost.window,
            reads=transformer_cost.reads,
            flops=transformer_cost.flops,
            parameters=transformer_cost.parameters,
        ),
        "nextitnet": Backbone(
            blocks=NextItNetBlocks,
            has_positions=False,
            window=nextitnet_cost.window,
            reads=nextitnet_cost.reads,
            flops=nextitnet_cost.flops,
            parameters=nextitnet_cost.parameters,
        ),
    }
)


def backbone_of(config: SupernetConfig) -> Backbone:
    """Return the backbone that `config` names."""
    return BACKBONES[config.backbone]

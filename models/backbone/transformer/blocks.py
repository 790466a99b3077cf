"""The Transformer's weights in a supernet, and their slices.

Widths nest inside each head (CANet slices across heads, which trains one network and serves
another), so a narrow submodel's head reads the leading rows of the full network's same head.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from models.backbone.contract import Blocks
from models.backbone.transformer.layers import BlockWeights, KernelWeights, TransformerLayers
from models.config import SupernetConfig


class Norms(nn.Module):
    """What every layer has of its own: two norms, two residual gains."""

    def __init__(self, config: SupernetConfig) -> None:
        super().__init__()
        width = config.width
        self.norm_attention_weight = nn.Parameter(torch.ones(width))
        self.norm_attention_bias = nn.Parameter(torch.zeros(width))
        self.norm_ffn_weight = nn.Parameter(torch.ones(width))
        self.norm_ffn_bias = nn.Parameter(torch.zeros(width))
        self.attention_gain = nn.Parameter(torch.ones(()))
        self.ffn_gain = nn.Parameter(torch.ones(()))

    def slice(self, width: int, kernel: KernelWeights) -> BlockWeights:
        """Return the layer at `width` with the kernel given."""
        return BlockWeights(
            kernel=kernel,
            norm_attention_weight_D=self.norm_attention_weight[:width],
            norm_attention_bias_D=self.norm_attention_bias[:width],
            norm_ffn_weight_D=self.norm_ffn_weight[:width],
            norm_ffn_bias_D=self.norm_ffn_bias[:width],
            attention_gain=self.attention_gain,
            ffn_gain=self.ffn_gain,
        )


class Block(Norms):
    """A layer that owns a kernel. Rows of `qkv` and columns of `out` are grouped by head."""

    def __init__(self, config: SupernetConfig) -> None:
        super().__init__(config)
        width, heads = config.width, config.num_heads
        inner = config.ffn_multiplier * width
        self.ffn_multiplier = config.ffn_multiplier
        self.qkv_weight = nn.Parameter(torch.empty(3, heads, width // heads, width))
        self.qkv_bias = nn.Parameter(torch.zeros(3, heads, width // heads))
        self.out_weight = nn.Parameter(torch.empty(width, heads, width // heads))
        self.out_bias = nn.Parameter(torch.zeros(width))
        self.ffn_in_weight = nn.Parameter(torch.empty(inner, width))
        self.ffn_in_bias = nn.Parameter(torch.zeros(inner))
        self.ffn_out_weight = nn.Parameter(torch.empty(width, inner))
        self.ffn_out_bias = nn.Parameter(torch.zeros(width))

    def initialise(self, generator: torch.Generator) -> None:
        """Draw fresh projections; the layer starts close to the identity."""
        width = self.out_bias.numel()
        nn.init.normal_(self.qkv_weight, std=width**-0.5, generator=generator)
        nn.init.normal_(self.out_weight, std=0.5 * width**-0.5, generator=generator)
        nn.init.xavier_normal_(self.ffn_in_weight, generator=generator)
        nn.init.xavier_normal_(self.ffn_out_weight, gain=0.5, generator=generator)

    def kernel(self, width: int) -> KernelWeights:
        """Return the kernel at `width`, nested inside each head on both sides of attention."""
        heads = self.qkv_weight.shape[1]
        k, f = width // heads, self.ffn_multiplier * width
        return KernelWeights(
            qkv_weight_3DD=self.qkv_weight[:, :, :k, :width].reshape(3 * width, width),
            qkv_bias_3D=self.qkv_bias[:, :, :k].reshape(3 * width),
            out_weight_DD=self.out_weight[:width, :, :k].reshape(width, width),
            out_bias_D=self.out_bias[:width],
            ffn_in_weight_FD=self.ffn_in_weight[:f, :width],
            ffn_in_bias_F=self.ffn_in_bias[:f],
            ffn_out_weight_DF=self.ffn_out_weight[:width, :f],
            ffn_out_bias_D=self.ffn_out_bias[:width],
        )


class TransformerBlocks(Blocks):
    """One child per layer, named by its number; the first that uses a kernel owns it."""

    def __init__(self, config: SupernetConfig) -> None:
        super().__init__()
        self._num_heads = config.num_heads
        plan = config.layer_plan
        self._owners = tuple(plan.index(kernel) for kernel in plan)
        for layer, owner in enumerate(self._owners):
            self.add_module(str(layer), Block(config) if owner == layer else Norms(config))

    @property
    def layers(self) -> tuple[Norms, ...]:
        """The layers in order."""
        return cast(tuple[Norms, ...], tuple(self.children()))

    def owner(self, layer: int) -> Block:
        """Return the layer whose kernel layer number `layer` runs; perhaps itself."""
        return cast(Block, self.layers[self._owners[layer]])

    def initialise(self, generator: torch.Generator) -> None:
        """Draw fresh kernels."""
        for layer in self.layers:
            if isinstance(layer, Block):
                layer.initialise(generator)

    def slice(self, depth: int, width: int) -> TransformerLayers:
        """Return the first `depth` layers at `width`; a shared kernel is cut once."""
        owners = self._owners[:depth]
        kernels = {owner: self.owner(owner).kernel(width) for owner in dict.fromkeys(owners)}
        return TransformerLayers(
            num_heads=self._num_heads,
            blocks=tuple(
                layer.slice(width, kernels[owner])
                for layer, owner in zip(self.layers[:depth], owners, strict=True)
            ),
        )

"""NextItNet's weights in a supernet, and their slices: leading channels, first blocks."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from models.backbone.contract import Blocks
from models.backbone.nextitnet.layers import ConvolutionWeights, KernelWeights, NextItNetLayers
from models.backbone.nextitnet.reach import TAPS, block_dilations
from models.config import SupernetConfig


class Kernel(nn.Module):
    """One kernel: `weight` (width, 3, width), the newest position's tap first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, TAPS, width))
        self.bias = nn.Parameter(torch.zeros(width))

    def slice(self, width: int) -> KernelWeights:
        """Return the kernel's leading channels."""
        return KernelWeights(
            weight_DX=self.weight[:width, :, :width].reshape(width, TAPS * width),
            bias_D=self.bias[:width],
        )


class Norm(nn.Module):
    """The norm after one convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_weight = nn.Parameter(torch.ones(width))
        self.norm_bias = nn.Parameter(torch.zeros(width))


class NextItNetBlocks(Blocks):
    """`norms`, two a block, and `kernels`, as many as the layer plan has."""

    def __init__(self, config: SupernetConfig) -> None:
        super().__init__()
        self._plan = config.layer_plan
        self._dilations = tuple(
            step
            for dilation in block_dilations(config.dilations, config.depth)
            for step in (dilation, 2 * dilation)
        )
        self.norms = nn.ModuleList(Norm(config.width) for _ in self._plan)
        self.kernels = nn.ModuleList(Kernel(config.width) for _ in set(self._plan))

    def initialise(self, generator: torch.Generator) -> None:
        """Draw fresh kernels."""
        for kernel in self.kernels:
            weight = cast(Kernel, kernel).weight
            nn.init.normal_(weight, std=weight[0].numel() ** -0.5, generator=generator)

    def slice(self, depth: int, width: int) -> NextItNetLayers:
        """Return the first `depth` blocks at `width`; a shared kernel is cut once."""
        plan = self._plan[: 2 * depth]
        kernels = {place: cast(Kernel, self.kernels[place]).slice(width) for place in set(plan)}
        norms = (cast(Norm, norm) for norm in self.norms)
        return NextItNetLayers(
            convolutions=tuple(
                ConvolutionWeights(
                    kernel=kernels[place],
                    dilation=dilation,
                    norm_weight_D=norm.norm_weight[:width],
                    norm_bias_D=norm.norm_bias[:width],
                )
                for place, dilation, norm in zip(plan, self._dilations, norms, strict=False)
            )
        )

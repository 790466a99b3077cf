"""NextItNet's layers (the network of CpRec): residual blocks of two dilated causal convolutions.

    x + ReLU(norm(conv_2l(ReLU(norm(conv_l(x))))))        kernels of three taps, D channels

A convolution is a product of the three taps side by side, at every position or, for serving, at
those alone that the newest position's output depends on (`reach.py`). Before the oldest item
every convolution reads zeros.
"""

# B batch, L length, N positions of a layer, M positions of all layers, E embedding width,
# D channels, X = 3 * D

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.arrays import Floats, Ids
from models.backbone.contract import Dropout, Feed, keep
from models.backbone.copies import all_tensors, copied
from models.backbone.nextitnet.cost import flops_of
from models.backbone.nextitnet.reach import TAPS, reach
from models.norm import layer_norm


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelWeights:
    """What convolutions may share; columns tap by tap, the newest position's first."""

    weight_DX: Tensor
    bias_D: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvolutionWeights:
    """One convolution: a norm and a dilation of its own, and a kernel, perhaps another's too."""

    kernel: KernelWeights
    dilation: int
    norm_weight_D: Tensor
    norm_bias_D: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class NextItNetLayers:
    """See `contract.Layers`; two convolutions to a block, shared kernels are the same object."""

    convolutions: tuple[ConvolutionWeights, ...]

    def encode(self, hidden_BLD: Tensor, dropout: Dropout = keep) -> Tensor:
        """Return the hidden state after every position, (B, L, D)."""
        for first, second in self.blocks():
            inner_BLD = _convolve_all(first, hidden_BLD)
            hidden_BLD = hidden_BLD + dropout(_convolve_all(second, inner_BLD))
        return hidden_BLD

    def blocks(self) -> tuple[tuple[ConvolutionWeights, ConvolutionWeights], ...]:
        """Return the residual blocks."""
        return tuple(zip(self.convolutions[::2], self.convolutions[1::2], strict=True))

    def extracted(self) -> NextItNetLayers:
        """Return detached contiguous copies, of a shared kernel one."""
        copies = {id(kernel): copied(kernel) for kernel in self.kernels()}
        return NextItNetLayers(
            convolutions=tuple(
                copied(one, kernel=copies[id(one.kernel)]) for one in self.convolutions
            )
        )

    def kernels(self) -> tuple[KernelWeights, ...]:
        """Return the kernels by first use, each once."""
        return tuple({id(one.kernel): one.kernel for one in self.convolutions}.values())

    def tensors(self) -> tuple[Tensor, ...]:
        """Return every tensor, those of a shared kernel once."""
        return all_tensors((*self.kernels(), *self.convolutions))

    def flops(self, length: int) -> int:
        """See `contract.Layers`."""
        dilations = tuple(first.dilation for first, _ in self.blocks())
        return flops_of(reach(dilations, length), len(self.convolutions[0].norm_weight_D))

    def newest(self) -> NextItNetNewest:
        """Return the layers prepared for the newest position."""
        return NextItNetNewest(self)


def _convolve_all(layer: ConvolutionWeights, values_BLD: Tensor) -> Tensor:
    """Return ReLU(norm(convolution)) at every position, (B, L, D)."""
    length, behind = values_BLD.shape[1], (TAPS - 1) * layer.dilation
    padded = F.pad(values_BLD, (0, 0, behind, 0))
    taps = [padded.narrow(1, behind - tap * layer.dilation, length) for tap in range(TAPS)]
    return _activate(layer, torch.cat(taps, dim=2))


def _activate(layer: ConvolutionWeights, joined_X: Tensor) -> Tensor:
    """Return ReLU(norm(kernel)) of (..., X) taps side by side, (..., D)."""
    values = F.linear(joined_X, layer.kernel.weight_DX, layer.kernel.bias_D)
    return torch.relu(layer_norm(values, layer.norm_weight_D, layer.norm_bias_D))


class NextItNetNewest:
    """See `contract.NewestLayers`; every layer runs where the newest output depends on it."""

    def __init__(self, layers: NextItNetLayers) -> None:
        self.layers = layers
        self._dilations = tuple(first.dilation for first, _ in layers.blocks())

    def feed(self, embedded_BLE: Floats, lengths_B: Ids) -> Feed:
        """Return `embedded`, newest first, and what `reach` says of this length.

        `mask` (B, M, 3, 1) float32: 1 where a tap meets an item, else 0; `taps` (M, 3), `counts`,
        `kept` and `kept_counts` int64.
        """
        found = reach(self._dilations, embedded_BLE.shape[1])
        places_BN = np.maximum(lengths_B[:, None] - 1 - found.offsets_N, 0)
        rows_B1 = np.arange(len(lengths_B))[:, None]
        mask_BM3 = found.behind_M3 < lengths_B[:, None, None]
        return {
            "embedded": embedded_BLE[rows_B1, places_BN],
            "mask": mask_BM3.astype(np.float32)[..., None],
            "taps": found.taps_M3,
            "counts": found.counts,
            "kept": found.kept,
            "kept_counts": found.kept_counts,
        }

    def forward(self, hidden_BND: Tensor, feed: Mapping[str, Tensor]) -> Tensor:
        """Return the newest position's hidden state (B, D)."""
        counts = feed["counts"].tolist()
        taps = iter(torch.split(feed["taps"], counts))
        masks = iter(torch.split(feed["mask"], counts, dim=1))
        kept = torch.split(feed["kept"], feed["kept_counts"].tolist())
        for block, kept_N in zip(self.layers.blocks(), kept, strict=True):
            values = hidden_BND
            for layer in block:
                gathered_BN3D = values[:, next(taps)] * next(masks)
                values = _activate(layer, gathered_BN3D.flatten(2))
            hidden_BND = hidden_BND[:, kept_N] + values
        return hidden_BND[:, 0]

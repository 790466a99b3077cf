"""What a backbone is: the layers between the network's ends, as four strategies.

The ends are the same for all and live in `models/network.py`: item table, positions (where a
backbone asks for them), input map, last norm, output map. A backbone brings the weights
(`Blocks`), their slices with the forward pass of training (`Layers`), the same pass for the newest
position alone (`NewestLayers`), and what they cost (`Backbone`).
"""

# B batch, L length, N positions that are computed, E embedding width, D hidden width

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.arrays import Floats, Ids
from models.config import Submodel, SupernetConfig

Dropout = Callable[[Tensor], Tensor]
Feed = dict[str, NDArray[Any]]


def keep(tensor: Tensor) -> Tensor:
    """Return the tensor unchanged: the dropout of inference."""
    return tensor


class Layers(Protocol):
    """One submodel's layers: views of the supernet, or contiguous copies.

    Causal: nothing at or after a position's right reaches it, so padding on the right reaches
    no real position.
    """

    def encode(self, hidden_BLD: Tensor, dropout: Dropout = keep) -> Tensor:
        """Return the hidden state after every position, (B, L, D), not normed."""
        ...

    def extracted(self) -> Layers:
        """Return detached contiguous copies, without what adds nothing.

        A kernel that layers share is copied once.
        """
        ...

    def tensors(self) -> tuple[Tensor, ...]:
        """Return every tensor, those of a shared kernel once."""
        ...

    def flops(self, length: int) -> int:
        """Return the FLOPs of these very layers for one history padded to `length`.

        Where nothing was left out of them: `Backbone.flops`.
        """
        ...

    def newest(self) -> NewestLayers:
        """Return the layers prepared for the newest position."""
        ...


class NewestLayers(Protocol):
    """The same layers where only the newest position's output is needed."""

    def feed(self, embedded_BLE: Floats, lengths_B: Ids) -> Feed:
        """Return what the forward pass reads, by name.

        `embedded` (B, N, E) float32 holds the positions that matter; the rest depends on the
        backbone. `lengths_B` int64 lies in 1..L.
        """
        ...

    def forward(self, hidden_BND: Tensor, feed: Mapping[str, Tensor]) -> Tensor:
        """Return the newest position's hidden state (B, D), not normed.

        `hidden_BND` is `feed["embedded"]` after the input map.
        """
        ...


class Blocks(nn.Module, ABC):
    """The layers' full weights inside a supernet, shared kernels once."""

    @abstractmethod
    def initialise(self, generator: torch.Generator) -> None:
        """Draw fresh weights."""

    @abstractmethod
    def slice(self, depth: int, width: int) -> Layers:
        """Return the first `depth` layers at `width` as differentiable views."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backbone:
    """One architecture: how its weights are made and what its layers cost.

    FLOPs count a multiply-add as two and leave the ends out.
    """

    blocks: Callable[[SupernetConfig], Blocks]
    has_positions: bool
    """Whether learned position embeddings are added to the items'."""
    window: Callable[[SupernetConfig, Submodel], int]
    """How many of the newest items can reach the newest output; older ones need no embedding."""
    reads: Callable[[SupernetConfig, Submodel, int], int]
    """Of how many positions of a history padded to a length the input map is taken."""
    flops: Callable[[SupernetConfig, Submodel, int], int]
    """FLOPs of the layers for one history padded to a length, newest position only."""
    parameters: Callable[[SupernetConfig, Submodel], int]
    """Parameters of the layers, those of a shared kernel once."""

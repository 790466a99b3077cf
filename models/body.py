"""A submodel's body: from embedded histories to the query vector after the newest item."""

# B batch, L length, N positions that are computed, E embedding width, D hidden width

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from models.arrays import Floats, Ids
from models.backbone.contract import Feed
from models.network import NetworkWeights, project


class Body(Protocol):
    """Runs one submodel's layers. Synchronous; for one thread at a time."""

    def __call__(self, embedded_BLE: Floats, lengths_B: Ids) -> Floats:
        """Return query_BE float32 after each history's newest item.

        `embedded_BLE` float32 holds item (and position) embeddings, right-padded (padding may be
        anything finite); `lengths_B` int64 lies in 1..L.
        """
        ...


class TorchBody:
    """The body in torch: the reference that other runtimes are checked against."""

    def __init__(self, weights: NetworkWeights) -> None:
        self._weights = weights
        self._newest = weights.layers.newest()

    @torch.no_grad()
    def __call__(self, embedded_BLE: Floats, lengths_B: Ids) -> Floats:
        """Return query_BE float32; see `Body`."""
        feed = self.feed(embedded_BLE, lengths_B)
        query_BE: Floats = self.forward(
            {name: torch.from_numpy(values) for name, values in feed.items()}
        ).numpy()
        return query_BE

    def feed(self, embedded_BLE: Floats, lengths_B: Ids) -> Feed:
        """Return what `forward` reads, as arrays; see `NewestLayers.feed`."""
        return self._newest.feed(embedded_BLE, lengths_B)

    def forward(self, feed: Mapping[str, Tensor]) -> Tensor:
        """Return query_BE."""
        weights = self._weights
        hidden_BND = F.linear(feed["embedded"], weights.input_weight_DE, weights.input_bias_D)
        return project(weights, self._newest.forward(hidden_BND, feed))

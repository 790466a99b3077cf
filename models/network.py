"""The one forward pass. Training runs it on slices, serving on contiguous copies of them.

Item table, input map, a backbone's layers (`models/backbone`), norm and output map, over
right-padded histories. Because padding stands on the right and every backbone is causal, no real
position ever sees padding: a history's answer depends neither on the padded length nor on its
neighbours in the batch. Positions, where there are any, count from the oldest item.

Published as masked in training and sliced in inference (CANet, F1 of its known faults), the two
networks differ; here slices and copies share one definition. `models/body.py` is its form for
serving, where only the newest position's output is needed.
"""

# B batch, L length, E embedding width, D hidden width, V catalog rows with padding

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from models.backbone.contract import Dropout, Layers, keep
from models.backbone.copies import own_tensors
from models.config import Submodel
from models.norm import layer_norm
from models.table.table import ItemTable
from models.table.tokens import BlockTokens


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkWeights:
    """The weights of one submodel: views of the supernet, or contiguous copies."""

    submodel: Submodel
    table: ItemTable
    item_bias_V: Tensor
    positions_LE: Tensor | None
    """None where the backbone has none."""
    input_weight_DE: Tensor
    input_bias_D: Tensor
    layers: Layers
    norm_weight_D: Tensor
    norm_bias_D: Tensor
    output_weight_ED: Tensor
    output_bias_E: Tensor
    memory_gain: Tensor
    tokens: BlockTokens | None = None
    """Of a two-level head."""

    def body_bytes(self) -> int:
        """Bytes of everything but the shared table and item bias; shared kernels count once."""
        ends = own_tensors(self)
        del ends["item_bias_V"]
        tokens = () if self.tokens is None else own_tensors(self.tokens).values()
        own = (*ends.values(), *tokens, *self.layers.tensors())
        return sum(tensor.numel() * tensor.element_size() for tensor in own)


def encode_all(weights: NetworkWeights, item_ids_BL: Tensor, *, dropout: Dropout = keep) -> Tensor:
    """Return the query vector after every position, (B, L, E) float32.

    `item_ids_BL` is int64, oldest first, right-padded with 0; what stands at padding is
    meaningless and reaches no real position.
    """
    hidden_BLD = _embed(weights, item_ids_BL, dropout)
    return project(weights, weights.layers.encode(hidden_BLD, dropout))


def score_all(weights: NetworkWeights, query_BE: Tensor) -> Tensor:
    """Return scores_BV float32 of every catalog row, memory excluded; padding's row is -inf."""
    scores_BV = weights.table.scores(query_BE, weights.item_bias_V)
    if weights.tokens is not None:
        scores_BV = weights.tokens.shifted(weights.table, scores_BV, query_BE)
    scores_BV[:, 0] = -torch.inf
    return scores_BV


def _embed(weights: NetworkWeights, item_ids_BL: Tensor, dropout: Dropout) -> Tensor:
    embedded_BLE = weights.table.embed(item_ids_BL)
    if weights.positions_LE is not None:
        embedded_BLE = embedded_BLE + weights.positions_LE[: item_ids_BL.shape[1]]
    return F.linear(dropout(embedded_BLE), weights.input_weight_DE, weights.input_bias_D)


def project(weights: NetworkWeights, hidden: Tensor) -> Tensor:
    """Return query vectors (..., E) of (..., D) hidden states: last norm and output map."""
    normed = layer_norm(hidden, weights.norm_weight_D, weights.norm_bias_D)
    return F.linear(normed, weights.output_weight_ED, weights.output_bias_E)

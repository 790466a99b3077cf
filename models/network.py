"""The one forward pass. Training runs it on slices, serving on contiguous copies of them.

A causal pre-norm Transformer over right-padded histories. Because padding stands on the right
and attention is causal, no real position ever sees padding: a history's answer depends neither
on the padded length nor on its neighbours in the batch. Positions count from the oldest item.

Published as masked in training and sliced in inference (CANet, F1 of its known faults), the two
networks differ; here slices and copies share one definition. `models/body.py` is its form for
serving, where only the newest position's output is needed.
"""

# B batch, L length, E embedding width, D hidden width, H heads, K head width, F feed-forward,
# V catalog rows with padding

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F

from models.config import Submodel
from models.table.table import ItemTable

NORM_EPS = 1e-5

Dropout = Callable[[Tensor], Tensor]


def keep(tensor: Tensor) -> Tensor:
    """Return the tensor unchanged: the dropout of inference."""
    return tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockWeights:
    """One layer. `qkv` rows are query, key, value, each head by head."""

    norm_attention_weight_D: Tensor
    norm_attention_bias_D: Tensor
    qkv_weight_3DD: Tensor
    qkv_bias_3D: Tensor
    out_weight_DD: Tensor
    out_bias_D: Tensor
    norm_ffn_weight_D: Tensor
    norm_ffn_bias_D: Tensor
    ffn_in_weight_FD: Tensor
    ffn_in_bias_F: Tensor
    ffn_out_weight_DF: Tensor
    ffn_out_bias_D: Tensor
    attention_gain: Tensor
    ffn_gain: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkWeights:
    """The weights of one submodel: views of the supernet, or contiguous copies."""

    submodel: Submodel
    num_heads: int
    table: ItemTable
    item_bias_V: Tensor
    positions_LE: Tensor
    input_weight_DE: Tensor
    input_bias_D: Tensor
    blocks: tuple[BlockWeights, ...]
    norm_weight_D: Tensor
    norm_bias_D: Tensor
    output_weight_ED: Tensor
    output_bias_E: Tensor
    memory_gain: Tensor

    def body_bytes(self) -> int:
        """Bytes of everything but the shared table and item bias."""
        own = [
            getattr(self, field.name)
            for field in fields(self)
            if field.name not in {"submodel", "num_heads", "table", "item_bias_V", "blocks"}
        ]
        own += [getattr(block, field.name) for block in self.blocks for field in fields(block)]
        return sum(tensor.numel() * tensor.element_size() for tensor in own)


def encode_all(weights: NetworkWeights, item_ids_BL: Tensor, *, dropout: Dropout = keep) -> Tensor:
    """Return the query vector after every position, (B, L, E) float32.

    `item_ids_BL` is int64, oldest first, right-padded with 0; what stands at padding is
    meaningless and reaches no real position.
    """
    hidden_BLD = _embed(weights, item_ids_BL, dropout)
    for block in weights.blocks:
        hidden_BLD = hidden_BLD + block.attention_gain * dropout(
            attend_all(block, hidden_BLD, weights.num_heads)
        )
        hidden_BLD = hidden_BLD + block.ffn_gain * dropout(feed_forward(block, hidden_BLD))
    return _project(weights, hidden_BLD)


def score_all(weights: NetworkWeights, query_BE: Tensor) -> Tensor:
    """Return scores_BV float32 of every catalog row, memory excluded; padding's row is -inf."""
    scores_BV = weights.table.scores(query_BE, weights.item_bias_V)
    scores_BV[:, 0] = -torch.inf
    return scores_BV


def _embed(weights: NetworkWeights, item_ids_BL: Tensor, dropout: Dropout) -> Tensor:
    length = item_ids_BL.shape[1]
    embedded_BLE = weights.table.embed(item_ids_BL) + weights.positions_LE[:length]
    return F.linear(dropout(embedded_BLE), weights.input_weight_DE, weights.input_bias_D)


def attend_all(block: BlockWeights, hidden_BLD: Tensor, num_heads: int) -> Tensor:
    """Return causal self-attention of the normed `hidden_BLD`, (B, L, D), residual not added."""
    batch, length, width = hidden_BLD.shape
    normed_BLD = layer_norm(hidden_BLD, block.norm_attention_weight_D, block.norm_attention_bias_D)
    qkv_BL3D = F.linear(normed_BLD, block.qkv_weight_3DD, block.qkv_bias_3D)
    qkv = qkv_BL3D.view(batch, length, 3, num_heads, width // num_heads)
    query, key, value = qkv.permute(2, 0, 3, 1, 4)
    mixed_BHLK = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    mixed_BLD = mixed_BHLK.transpose(1, 2).reshape(batch, length, width)
    return F.linear(mixed_BLD, block.out_weight_DD, block.out_bias_D)


def feed_forward(block: BlockWeights, hidden: Tensor) -> Tensor:
    """Return the block's feed-forward of the normed (..., D) `hidden`, residual not added."""
    normed = layer_norm(hidden, block.norm_ffn_weight_D, block.norm_ffn_bias_D)
    inner = F.gelu(F.linear(normed, block.ffn_in_weight_FD, block.ffn_in_bias_F))
    return F.linear(inner, block.ffn_out_weight_DF, block.ffn_out_bias_D)


def _project(weights: NetworkWeights, hidden: Tensor) -> Tensor:
    normed = layer_norm(hidden, weights.norm_weight_D, weights.norm_bias_D)
    return F.linear(normed, weights.output_weight_ED, weights.output_bias_E)


def layer_norm(hidden: Tensor, weight_D: Tensor, bias_D: Tensor) -> Tensor:
    """Return `hidden` normed over its last axis."""
    return F.layer_norm(hidden, weight_D.shape, weight_D, bias_D, NORM_EPS)

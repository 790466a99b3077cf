"""A submodel's body: from embedded histories to query vectors, and how its last layer is folded.

Only the newest position's output is served, so the last layer attends from there alone. For one
query per history it is cheaper to carry the query to the keys than the keys to the query: with
head h's projections Q, K, V, O,

    score of position l  =  (Q_h y + b) . (K_h y_l)  =  (K_h' Q_h y + K_h' b) . y_l
    output               =  O_h (V_h sum_l a_l y_l)  =  (O_h V_h) (sum_l a_l y_l)

up to a term that is the same for every l, which softmax drops. The products in brackets are
taken once, and the last layer's keys and values are never computed.
"""

# B batch, L length, E embedding width, D hidden width, H heads, K head width

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from models.network import BlockWeights, NetworkWeights, attend_all, feed_forward, layer_norm

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]


class Body(Protocol):
    """Runs one submodel's layers. Synchronous; for one thread at a time."""

    def __call__(self, embedded_BLE: Floats, lengths_B: Ids) -> Floats:
        """Return query_BE float32 after each history's newest item.

        `embedded_BLE` float32 holds item and position embeddings, right-padded (padding may be
        anything finite); `lengths_B` int64 lies in 1..L.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NewestAttention:
    """Attention of the newest position, folded: float32, contiguous."""

    query_weight_XD: Tensor
    """(H * D, D), scaled by 1 / sqrt(K)."""
    query_bias_X: Tensor
    out_weight_DX: Tensor
    out_bias_D: Tensor


def fold_newest(block: BlockWeights, num_heads: int) -> NewestAttention:
    """Return the folded attention of a network's last block; products are taken in float64."""
    width = block.out_weight_DD.shape[0]
    head_width = width // num_heads
    query_HKD, key_HKD, value_HKD = (
        block.qkv_weight_3DD.detach().double().view(3, num_heads, head_width, width)
    )
    query_HK, _, value_HK = block.qkv_bias_3D.detach().double().view(3, num_heads, head_width)
    out_DHK = block.out_weight_DD.detach().double().reshape(width, num_heads, head_width)
    key_HKD = key_HKD / math.sqrt(head_width)
    across = num_heads * width
    out_bias_D = block.out_bias_D.detach().double() + torch.einsum("dhk,hk->d", out_DHK, value_HK)
    return NewestAttention(
        query_weight_XD=torch.einsum("hke,hkd->hed", key_HKD, query_HKD)
        .reshape(across, width)
        .float(),
        query_bias_X=torch.einsum("hke,hk->he", key_HKD, query_HK).reshape(across).float(),
        out_weight_DX=torch.einsum("dhk,hke->dhe", out_DHK, value_HKD)
        .reshape(width, across)
        .float(),
        out_bias_D=out_bias_D.float(),
    )


def newest_mask(lengths_B: Ids, length: int) -> Floats:
    """Return (B, 1, L) float32: 0 at real positions, -inf at padding."""
    hidden_BL = np.arange(length) >= lengths_B[:, None]
    return np.where(hidden_BL, np.float32(-np.inf), np.float32(0))[:, None]


class TorchBody:
    """The body in torch: the reference that other runtimes are checked against."""

    def __init__(self, weights: NetworkWeights) -> None:
        self._weights = weights
        self._newest = fold_newest(weights.blocks[-1], weights.num_heads)

    @torch.no_grad()
    def __call__(self, embedded_BLE: Floats, lengths_B: Ids) -> Floats:
        """Return query_BE float32; see `Body`."""
        query_BE: Floats = self.forward(
            torch.from_numpy(embedded_BLE),
            torch.from_numpy(lengths_B) - 1,
            torch.from_numpy(newest_mask(lengths_B, embedded_BLE.shape[1])),
        ).numpy()
        return query_BE

    def forward(self, embedded_BLE: Tensor, newest_B: Tensor, mask_B1L: Tensor) -> Tensor:
        """Return query_BE; `newest_B` int64 are the newest positions, `mask_B1L` their mask."""
        weights, newest = self._weights, self._newest
        hidden_BLD = F.linear(embedded_BLE, weights.input_weight_DE, weights.input_bias_D)
        for block in weights.blocks[:-1]:
            hidden_BLD = hidden_BLD + block.attention_gain * attend_all(
                block, hidden_BLD, weights.num_heads
            )
            hidden_BLD = hidden_BLD + block.ffn_gain * feed_forward(block, hidden_BLD)
        block = weights.blocks[-1]
        width = hidden_BLD.shape[2]
        normed_BLD = layer_norm(
            hidden_BLD, block.norm_attention_weight_D, block.norm_attention_bias_D
        )
        places = (torch.arange(embedded_BLE.shape[0]), newest_B)
        query_BHD = F.linear(normed_BLD[places], newest.query_weight_XD, newest.query_bias_X).view(
            -1, weights.num_heads, width
        )
        attention_BHL = torch.baddbmm(mask_B1L, query_BHD, normed_BLD.transpose(1, 2)).softmax(2)
        mixed_BX = torch.bmm(attention_BHL, normed_BLD).flatten(1)
        last_BD = hidden_BLD[places] + block.attention_gain * F.linear(
            mixed_BX, newest.out_weight_DX, newest.out_bias_D
        )
        last_BD = last_BD + block.ffn_gain * feed_forward(block, last_BD)
        normed_BD = layer_norm(last_BD, weights.norm_weight_D, weights.norm_bias_D)
        return F.linear(normed_BD, weights.output_weight_ED, weights.output_bias_E)

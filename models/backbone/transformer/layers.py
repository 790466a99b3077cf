"""Causal pre-norm Transformer layers, at every position or folded for the newest one.

Serving needs the newest position's output only, so the last layer attends from there alone. For
one query per history it is cheaper to carry the query to the keys than the keys to the query:
with head h's projections Q, K, V, O,

    score of position l  =  (Q_h y + b) . (K_h y_l)  =  (K_h' Q_h y + K_h' b) . y_l
    output               =  O_h (V_h sum_l a_l y_l)  =  (O_h V_h) (sum_l a_l y_l)

up to a term that is the same for every l, which softmax drops. The products in brackets are
taken once, and the last layer's keys and values are never computed.
"""

# B batch, L length, E embedding width, D hidden width, H heads, K head width, F feed-forward,
# X = H * D

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.arrays import Floats, Ids
from models.backbone.contract import Dropout, Feed, keep
from models.backbone.copies import all_tensors, copied
from models.backbone.transformer.cost import flops_of
from models.norm import layer_norm


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelWeights:
    """What layers may share. `qkv` rows are query, key, value, each head by head.

    Heads and feed-forward channels may be fewer than the network's, each as wide as ever.
    """

    qkv_weight_3DD: Tensor
    qkv_bias_3D: Tensor
    out_weight_DD: Tensor
    out_bias_D: Tensor
    ffn_in_weight_FD: Tensor
    ffn_in_bias_F: Tensor
    ffn_out_weight_DF: Tensor
    ffn_out_bias_D: Tensor

    @property
    def attended(self) -> int:
        """Columns of all heads together."""
        return self.out_weight_DD.shape[1]

    @property
    def inner(self) -> int:
        """Feed-forward channels."""
        return self.ffn_in_weight_FD.shape[0]

    def alive(self, head_width: int) -> KernelWeights:
        """Return the kernel without heads and channels that write nothing; one of each stays.

        What they write is exactly zero once sparse training let them die.
        """
        writes_H = (self.out_weight_DD != 0).any(0).view(-1, head_width).any(1)
        writes_F = (self.ffn_out_weight_DF != 0).any(0)
        for writes in (writes_H, writes_F):
            writes[0] |= ~writes.any()
        if writes_H.all() and writes_F.all():
            return self
        columns = writes_H.repeat_interleave(head_width)
        rows = columns.repeat(3)
        return replace(
            self,
            qkv_weight_3DD=self.qkv_weight_3DD[rows],
            qkv_bias_3D=self.qkv_bias_3D[rows],
            out_weight_DD=self.out_weight_DD[:, columns],
            ffn_in_weight_FD=self.ffn_in_weight_FD[writes_F],
            ffn_in_bias_F=self.ffn_in_bias_F[writes_F],
            ffn_out_weight_DF=self.ffn_out_weight_DF[:, writes_F],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockWeights:
    """One layer: norms and residual gains of its own, and a kernel, perhaps another layer's too."""

    kernel: KernelWeights
    norm_attention_weight_D: Tensor
    norm_attention_bias_D: Tensor
    norm_ffn_weight_D: Tensor
    norm_ffn_bias_D: Tensor
    attention_gain: Tensor
    ffn_gain: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerLayers:
    """See `contract.Layers`; layers that share a kernel hold the same `KernelWeights`.

    `num_heads` are the network's, which say how wide a head is; a layer may have fewer.
    """

    num_heads: int
    blocks: tuple[BlockWeights, ...]

    def encode(self, hidden_BLD: Tensor, dropout: Dropout = keep) -> Tensor:
        """Return the hidden state after every position, (B, L, D)."""
        for block in self.blocks:
            hidden_BLD = hidden_BLD + block.attention_gain * dropout(
                attend_all(block, hidden_BLD, self.num_heads)
            )
            hidden_BLD = hidden_BLD + block.ffn_gain * dropout(feed_forward(block, hidden_BLD))
        return hidden_BLD

    def extracted(self) -> TransformerLayers:
        """Return detached contiguous copies, of a shared kernel one; see `KernelWeights.alive`."""
        head_width = self.width // self.num_heads
        copies = {id(kernel): copied(kernel.alive(head_width)) for kernel in self.kernels()}
        blocks = tuple(copied(one, kernel=copies[id(one.kernel)]) for one in self.blocks)
        return TransformerLayers(num_heads=self.num_heads, blocks=blocks)

    @property
    def width(self) -> int:
        """Hidden width."""
        return len(self.blocks[0].norm_ffn_weight_D)

    def flops(self, length: int) -> int:
        """See `contract.Layers`."""
        kernels = [(block.kernel.attended, block.kernel.inner) for block in self.blocks]
        return flops_of(self.width, self.width // self.num_heads, kernels, length)

    def kernels(self) -> tuple[KernelWeights, ...]:
        """Return the kernels by first use, each once."""
        return tuple({id(block.kernel): block.kernel for block in self.blocks}.values())

    def tensors(self) -> tuple[Tensor, ...]:
        """Return every tensor, those of a shared kernel once."""
        return all_tensors((*self.kernels(), *self.blocks))

    def newest(self) -> TransformerNewest:
        """Return the layers prepared for the newest position."""
        return TransformerNewest(self)


def attend_all(block: BlockWeights, hidden_BLD: Tensor, num_heads: int) -> Tensor:
    """Return causal self-attention of the normed `hidden_BLD`, (B, L, D), residual not added.

    `num_heads` are the network's; the layer may have fewer, as wide as those.
    """
    batch, length, width = hidden_BLD.shape
    kernel = block.kernel
    normed_BLD = layer_norm(hidden_BLD, block.norm_attention_weight_D, block.norm_attention_bias_D)
    qkv_BL3D = F.linear(normed_BLD, kernel.qkv_weight_3DD, kernel.qkv_bias_3D)
    head_width = width // num_heads
    qkv = qkv_BL3D.view(batch, length, 3, kernel.attended // head_width, head_width)
    query, key, value = qkv.permute(2, 0, 3, 1, 4)
    mixed_BHLK = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    mixed_BLD = mixed_BHLK.transpose(1, 2).reshape(batch, length, kernel.attended)
    return F.linear(mixed_BLD, kernel.out_weight_DD, kernel.out_bias_D)


def feed_forward(block: BlockWeights, hidden: Tensor) -> Tensor:
    """Return the block's feed-forward of the normed (..., D) `hidden`, residual not added."""
    kernel = block.kernel
    normed = layer_norm(hidden, block.norm_ffn_weight_D, block.norm_ffn_bias_D)
    inner = F.gelu(F.linear(normed, kernel.ffn_in_weight_FD, kernel.ffn_in_bias_F))
    return F.linear(inner, kernel.ffn_out_weight_DF, kernel.ffn_out_bias_D)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewestAttention:
    """Attention of the newest position, folded, gain included: float32, contiguous."""

    query_weight_XD: Tensor
    """(H * D, D), scaled by 1 / sqrt(K); H are this layer's heads."""
    query_bias_X: Tensor
    out_weight_DX: Tensor
    out_bias_D: Tensor


def fold_newest(block: BlockWeights, num_heads: int) -> NewestAttention:
    """Return the folded attention of a network's last block; products are taken in float64.

    `num_heads` are the network's; the block may have fewer, as wide as those.
    """
    kernel, gain = block.kernel, block.attention_gain.detach().double()
    width = kernel.out_weight_DD.shape[0]
    head_width = width // num_heads
    num_heads = kernel.attended // head_width
    query_HKD, key_HKD, value_HKD = (
        kernel.qkv_weight_3DD.detach().double().view(3, num_heads, head_width, width)
    )
    query_HK, _, value_HK = kernel.qkv_bias_3D.detach().double().view(3, num_heads, head_width)
    out_DHK = kernel.out_weight_DD.detach().double().reshape(width, num_heads, head_width) * gain
    key_HKD = key_HKD / math.sqrt(head_width)
    across = num_heads * width
    out_bias_D = kernel.out_bias_D.detach().double() * gain
    return NewestAttention(
        query_weight_XD=torch.einsum("hke,hkd->hed", key_HKD, query_HKD)
        .reshape(across, width)
        .float(),
        query_bias_X=torch.einsum("hke,hk->he", key_HKD, query_HK).reshape(across).float(),
        out_weight_DX=torch.einsum("dhk,hke->dhe", out_DHK, value_HKD)
        .reshape(width, across)
        .float(),
        out_bias_D=(out_bias_D + torch.einsum("dhk,hk->d", out_DHK, value_HK)).float(),
    )


class TransformerNewest:
    """See `contract.NewestLayers`; every layer but the last runs at every position."""

    def __init__(self, layers: TransformerLayers) -> None:
        self.layers = layers
        self.folded = fold_newest(layers.blocks[-1], layers.num_heads)

    @staticmethod
    def feed(embedded_BLE: Floats, lengths_B: Ids) -> Feed:
        """Return `embedded`, `places` and `mask`.

        `places` (B, 1) int64: each history's newest position; `mask` (B, 1, L) float32: 0 at real
        positions, -inf at padding.
        """
        mask_B1L = _masks(embedded_BLE.shape[1]).take(lengths_B, axis=0)
        return {"embedded": embedded_BLE, "places": lengths_B[:, None] - 1, "mask": mask_B1L}

    def forward(self, hidden_BND: Tensor, feed: Mapping[str, Tensor]) -> Tensor:
        """Return the newest position's hidden state (B, D)."""
        heads, blocks, folded = self.layers.num_heads, self.layers.blocks, self.folded
        below = TransformerLayers(num_heads=heads, blocks=blocks[:-1])
        hidden_BLD = below.encode(hidden_BND)
        block = blocks[-1]
        width = hidden_BLD.shape[2]
        normed_BLD = layer_norm(
            hidden_BLD, block.norm_attention_weight_D, block.norm_attention_bias_D
        )
        newest_B = feed["places"][:, 0]
        rows_B = torch.arange(len(newest_B))
        query_BHD = F.linear(
            normed_BLD[rows_B, newest_B], folded.query_weight_XD, folded.query_bias_X
        ).view(-1, len(folded.query_bias_X) // width, width)
        attention_BHL = torch.baddbmm(feed["mask"], query_BHD, normed_BLD.transpose(1, 2)).softmax(
            2
        )
        mixed_BX = torch.bmm(attention_BHL, normed_BLD).flatten(1)
        last_BD = hidden_BLD[rows_B, newest_B] + F.linear(
            mixed_BX, folded.out_weight_DX, folded.out_bias_D
        )
        return last_BD + block.ffn_gain * feed_forward(block, last_BD)


@cache
def _masks(length: int) -> Floats:
    """Return (L + 1, 1, L) float32: row n is 0 in its first n columns and -inf in the others."""
    hidden = np.arange(length) >= np.arange(length + 1)[:, None, None]
    return np.where(hidden, np.float32(-np.inf), np.float32(0))

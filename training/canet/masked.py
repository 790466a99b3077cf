"""The forward pass under gates: each history of a batch through a submodel of its own.

With a one-hot choice it is the slice, term by term (`models/network.py`, `Supernet.slice`): widths
nest inside each head, scores are divided by the slice's own head width, the feed-forward layer
shrinks with the width, and norms see the slice alone. With straight-through gates it is also
differentiable in the choice. The full computation is always paid.
"""

# B batch, L length, E embedding width, D hidden width, H heads, K head width, F feed-forward,
# N layers

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from models.backbone.contract import Dropout, keep
from models.backbone.transformer.blocks import Block, Norms, TransformerBlocks
from models.config import SupernetConfig
from models.norm import NORM_EPS
from models.supernet import Supernet
from training.canet.choice import Axes


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """Prefix masks per history, differentiable in the choice; `runs_BN` gates the layers."""

    emb_B1E: Tensor
    width_B1D: Tensor
    head_B11K: Tensor
    inner_B1F: Tensor
    runs_BN: Tensor
    inside_B1D: Tensor
    """`width_B1D` without gradient: what the norms are over."""
    sharpen_B111: Tensor
    """What makes attention divide by the root of the slice's head width, without gradient."""

    @classmethod
    def of(cls, config: SupernetConfig, marginals: Axes) -> Gates:
        """Return the gates of each history's (B, A) marginals."""
        heads = config.num_heads
        width_BD = marginals.width @ _prefixes(config.widths)
        head_BK = marginals.width @ _prefixes([width // heads for width in config.widths])
        inner_BF = marginals.width @ _prefixes([config.ffn_multiplier * w for w in config.widths])
        kept_B = head_BK.detach().sum(1)
        return cls(
            emb_B1E=(marginals.emb @ _prefixes(config.emb_widths))[:, None],
            width_B1D=width_BD[:, None],
            head_B11K=head_BK[:, None, None],
            inner_B1F=inner_BF[:, None],
            runs_BN=marginals.depth @ _prefixes(config.depths),
            inside_B1D=width_BD.detach()[:, None],
            sharpen_B111=(config.width / heads / kept_B).sqrt()[:, None, None, None],
        )


def masked_encode(
    supernet: Supernet, gates: Gates, item_ids_BL: Tensor, *, dropout: Dropout = keep
) -> Tensor:
    """Return the query vector after every position, (B, L, E) float32, 0 beyond a slice's width.

    Every other column is what `encode_all` gives with the chosen slice. `item_ids_BL` is int64,
    oldest first, right-padded with 0.
    """
    blocks, positions = supernet.blocks, supernet.positions
    assert isinstance(blocks, TransformerBlocks), "only the Transformer has gates"
    assert positions is not None
    embedded_BLE = supernet.item_table.embed(item_ids_BL)
    embedded_BLE = embedded_BLE + positions[: item_ids_BL.shape[1]]
    embedded_BLE = dropout(embedded_BLE * gates.emb_B1E)
    hidden_BLD = F.linear(embedded_BLE, supernet.input_weight, supernet.input_bias)
    hidden_BLD = hidden_BLD * gates.width_B1D
    always = supernet.config.depths[0]
    for layer, norms in enumerate(blocks.layers):
        kernel = blocks.owner(layer)
        run_B11 = gates.runs_BN[:, layer, None, None] if layer >= always else None
        added_BLD = _attend(norms, kernel, gates, hidden_BLD) * gates.width_B1D
        hidden_BLD = _add(hidden_BLD, norms.attention_gain * dropout(added_BLD), run_B11)
        added_BLD = _feed_forward(norms, kernel, gates, hidden_BLD) * gates.width_B1D
        hidden_BLD = _add(hidden_BLD, norms.ffn_gain * dropout(added_BLD), run_B11)
    normed_BLD = _norm(hidden_BLD, gates, supernet.norm_weight, supernet.norm_bias)
    query_BLE = F.linear(normed_BLD, supernet.output_weight, supernet.output_bias)
    return query_BLE * gates.emb_B1E


def _prefixes(sizes: Sequence[int]) -> Tensor:
    """Return (A, largest size) float32: row a is 1 in its first `sizes[a]` columns."""
    return (torch.arange(sizes[-1]) < torch.tensor(list(sizes))[:, None]).float()


def _add(hidden_BLD: Tensor, added_BLD: Tensor, run_B11: Tensor | None) -> Tensor:
    return hidden_BLD + (added_BLD if run_B11 is None else run_B11 * added_BLD)


def _attend(norms: Norms, kernel: Block, gates: Gates, hidden_BLD: Tensor) -> Tensor:
    batch, length, width = hidden_BLD.shape
    heads = kernel.qkv_weight.shape[1]
    normed_BLD = _norm(hidden_BLD, gates, norms.norm_attention_weight, norms.norm_attention_bias)
    qkv_BL3D = F.linear(
        normed_BLD, kernel.qkv_weight.reshape(3 * width, width), kernel.qkv_bias.reshape(3 * width)
    )
    qkv = qkv_BL3D.view(batch, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    query, key, value = qkv * gates.head_B11K
    mixed_BHLK = F.scaled_dot_product_attention(
        query * gates.sharpen_B111, key, value, is_causal=True
    )
    mixed_BLD = mixed_BHLK.transpose(1, 2).reshape(batch, length, width)
    return F.linear(mixed_BLD, kernel.out_weight.reshape(width, width), kernel.out_bias)


def _feed_forward(norms: Norms, kernel: Block, gates: Gates, hidden_BLD: Tensor) -> Tensor:
    normed_BLD = _norm(hidden_BLD, gates, norms.norm_ffn_weight, norms.norm_ffn_bias)
    inner_BLF = F.gelu(F.linear(normed_BLD, kernel.ffn_in_weight, kernel.ffn_in_bias))
    return F.linear(inner_BLF * gates.inner_B1F, kernel.ffn_out_weight, kernel.ffn_out_bias)


def _norm(hidden_BLD: Tensor, gates: Gates, weight_D: Tensor, bias_D: Tensor) -> Tensor:
    """Return the norm over each history's own width, 0 beyond it."""
    inside_B1D = gates.inside_B1D
    width_B11 = inside_B1D.sum(2, keepdim=True)
    mean_BL1 = (hidden_BLD * inside_B1D).sum(2, keepdim=True) / width_B11
    centred_BLD = (hidden_BLD - mean_BL1) * inside_B1D
    variance_BL1 = centred_BLD.square().sum(2, keepdim=True) / width_B11
    normed_BLD = centred_BLD * torch.rsqrt(variance_BL1 + NORM_EPS)
    return normed_BLD * weight_D + bias_D * inside_B1D

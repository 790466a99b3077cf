"""The network's definition, one history at a time, unpadded, straight from the full parameters."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from models.backbone.nextitnet.blocks import Kernel, NextItNetBlocks, Norm
from models.backbone.transformer.blocks import TransformerBlocks
from models.config import Submodel, SupernetConfig
from models.layer_plan import layer_plan
from models.memory import TransitionMemory
from models.supernet import Supernet


def evidence(memory: TransitionMemory, num_items: int, history: list[int]) -> Tensor:
    """The memory's evidence for every row, entry by entry."""
    found = torch.zeros(num_items + 1)
    for age, item in enumerate(reversed(history[-memory.config.window :]), start=1):
        for place in range(int(memory.offsets[item]), int(memory.offsets[item + 1])):
            found[memory.items[place]] += memory.weights[place] / age
    return found


def naive_table(supernet: Supernet) -> Tensor:
    """Every embedding by its definition, row by row, straight from the full parameters."""
    config, state = supernet.config, supernet.state_dict()
    if config.table is None:
        return supernet.table.detach()
    rows = []
    for place, block in enumerate(config.table.blocks):
        for row in state[f"table_blocks.rows.{place}"]:
            if config.table.projected and block.width < config.emb_width:
                rows.append(row @ state[f"table_blocks.projections.{place}"])
            else:
                whole = torch.zeros(config.emb_width)
                whole[list(block.columns or range(block.width))] = row
                rows.append(whole)
    return torch.stack(rows)


def naive_scores(supernet: Supernet, submodel: Submodel, history: list[int]) -> Tensor:
    """Scores of every row, memory left out; padding's row is -inf."""
    e, d = submodel.emb_width, submodel.width
    ids = torch.tensor(history)
    table_VE = naive_table(supernet)
    z = table_VE[ids, :e]
    if supernet.positions is not None:
        z = z + supernet.positions[: len(ids), :e]
    z = z @ supernet.input_weight[:d, :e].T + supernet.input_bias[:d]
    blocks = supernet.blocks
    if isinstance(blocks, TransformerBlocks):
        z = _attend(blocks, supernet.config, submodel, z)
    else:
        assert isinstance(blocks, NextItNetBlocks)
        z = _convolve(blocks, supernet.config, submodel, z)
    query = F.layer_norm(z[-1], (d,), supernet.norm_weight[:d], supernet.norm_bias[:d])
    query = query @ supernet.output_weight[:e, :d].T + supernet.output_bias[:e]
    scores = table_VE[:, :e] @ query + supernet.item_bias
    if supernet.config.two_level:
        scores = naive_levels(supernet, query, scores)
    scores[0] = -torch.inf
    return scores


def naive_levels(supernet: Supernet, query: Tensor, scores: Tensor) -> Tensor:
    """log p of every row under two softmaxes, up to one number for all rows."""
    layout, e = supernet.config.layout, len(query)
    tokens = supernet.block_tokens[:, :e] @ query + supernet.block_token_bias
    found = [scores[: layout.blocks[0].stop]]
    for token, start, block in zip(tokens, layout.starts[1:], layout.blocks[1:], strict=True):
        found.append(token + scores[start : block.stop].log_softmax(0))
    return torch.cat(found)


def _attend(
    blocks: TransformerBlocks, config: SupernetConfig, submodel: Submodel, z: Tensor
) -> Tensor:
    heads, d = config.num_heads, submodel.width
    k, f = d // heads, config.ffn_multiplier * d
    plan = layer_plan(config.layer_sharing, submodel.depth)
    for own, physical in zip(blocks.layers, plan, strict=False):
        shared = blocks.owner(plan.index(physical))
        y = F.layer_norm(z, (d,), own.norm_attention_weight[:d], own.norm_attention_bias[:d])
        mixed = torch.zeros(len(z), d)
        for head in range(heads):
            q, key, v = (
                y @ shared.qkv_weight[part, head, :k, :d].T + shared.qkv_bias[part, head, :k]
                for part in range(3)
            )
            attention = q @ key.T / k**0.5
            future = torch.ones_like(attention).triu(1).bool()
            attention = attention.masked_fill(future, -torch.inf).softmax(1)
            mixed += (attention @ v) @ shared.out_weight[:d, head, :k].T
        z = z + own.attention_gain * (mixed + shared.out_bias[:d])
        y = F.layer_norm(z, (d,), own.norm_ffn_weight[:d], own.norm_ffn_bias[:d])
        y = F.gelu(y @ shared.ffn_in_weight[:f, :d].T + shared.ffn_in_bias[:f])
        z = z + own.ffn_gain * (y @ shared.ffn_out_weight[:d, :f].T + shared.ffn_out_bias[:d])
    return z


def _convolve(
    blocks: NextItNetBlocks, config: SupernetConfig, submodel: Submodel, z: Tensor
) -> Tensor:
    d = submodel.width
    plan = layer_plan(config.layer_sharing, 2 * submodel.depth)
    places = list(range(len(plan)))
    for first, second in list(pairwise(places))[::2]:
        dilation = config.dilations[first // 2 % len(config.dilations)]
        y = z
        for place, step in ((first, dilation), (second, 2 * dilation)):
            kernel, norm = blocks.kernels[plan[place]], blocks.norms[place]
            assert isinstance(kernel, Kernel)
            assert isinstance(norm, Norm)
            # torch's convolution has the oldest tap first and channels before positions.
            weight = kernel.weight[:d, :, :d].permute(0, 2, 1).flip(2)
            padded = F.pad(y.T[None], (2 * step, 0))
            y = F.conv1d(padded, weight, kernel.bias[:d], dilation=step)[0].T
            y = F.layer_norm(y, (d,), norm.norm_weight[:d], norm.norm_bias[:d]).relu()
        z = z + y
    return z

"""The Transformer's layers as ONNX nodes, for the newest position."""

# B batch, L length, D hidden width, H heads, X = H * D

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from torch import Tensor

from models.backbone.transformer.layers import BlockWeights, TransformerNewest
from models.onnx_graph import FUSED, Graph


def write(graph: Graph, newest: TransformerNewest, hidden: str, norm: tuple[Tensor, Tensor]) -> str:
    """Add the layers and the norm of weight and bias (D) that follows them; return the output.

    `hidden` names (B, L, D), the output is (B, D). The inputs `places` and `mask` are those of
    `TransformerNewest.feed`.
    """
    return _Writer(graph, newest).write(hidden, norm)


class _Writer:
    def __init__(self, graph: Graph, newest: TransformerNewest) -> None:
        self._graph = graph
        self._newest = newest
        self._head_width = newest.layers.width // newest.layers.num_heads
        self._users = Counter(id(block.kernel) for block in newest.layers.blocks)

    def write(self, hidden: str, norm: tuple[Tensor, Tensor]) -> str:
        graph, blocks = self._graph, self._newest.layers.blocks
        places = graph.input("places", ["B", 1], "int64")
        graph.input("mask", ["B", 1, "L"])
        first, last = blocks[0], blocks[-1]
        normed = graph.norm(hidden, first.norm_attention_weight_D, first.norm_attention_bias_D)
        for block, following in pairwise(blocks):
            attended, bias_D = self._attend_all(block, normed)
            normed, hidden = graph.add_and_norm(
                attended, hidden, block.norm_ffn_weight_D, block.norm_ffn_bias_D, bias_D
            )
            fed, bias_D = self._feed_forward(block, normed)
            normed, hidden = graph.add_and_norm(
                fed,
                hidden,
                following.norm_attention_weight_D,
                following.norm_attention_bias_D,
                bias_D,
            )
        attended, bias_D = self._attend_newest(normed)
        newest = graph.node("GatherND", hidden, places, batch_dims=1)
        normed, newest = graph.add_and_norm(
            attended, newest, last.norm_ffn_weight_D, last.norm_ffn_bias_D, bias_D
        )
        fed, bias_D = self._feed_forward(last, normed)
        return graph.add_and_norm(fed, newest, *norm, bias_D)[0]

    def _attend_all(self, block: BlockWeights, normed: str) -> tuple[str, Tensor]:
        kernel, graph = block.kernel, self._graph
        mixed = graph.node(
            "Attention",
            normed,
            graph.constant(kernel.qkv_weight_3DD.T),
            graph.constant(kernel.qkv_bias_3D),
            domain=FUSED,
            num_heads=kernel.attended // self._head_width,
            qkv_hidden_sizes=[kernel.attended] * 3,
            unidirectional=1,
        )
        return self._scaled(
            block, mixed, kernel.out_weight_DD, kernel.out_bias_D, block.attention_gain
        )

    def _attend_newest(self, normed: str) -> tuple[str, Tensor]:
        graph, folded = self._graph, self._newest.folded
        width = len(folded.out_bias_D)
        heads = len(folded.query_bias_X) // width
        newest = graph.node("GatherND", normed, "places", batch_dims=1)
        query = graph.gemm(newest, folded.query_weight_XD, folded.query_bias_X)
        query = graph.node("Reshape", query, graph.shape(-1, heads, width))
        scores = graph.node("FusedMatMul", query, normed, domain=FUSED, transB=1)
        attention = graph.node("Softmax", graph.node("Add", scores, "mask"), axis=-1)
        mixed = graph.node("MatMul", attention, normed)
        mixed = graph.node("Reshape", mixed, graph.shape(-1, heads * width))
        return graph.linear(mixed, folded.out_weight_DX), folded.out_bias_D

    def _feed_forward(self, block: BlockWeights, normed: str) -> tuple[str, Tensor]:
        kernel, graph = block.kernel, self._graph
        inner = graph.linear(normed, kernel.ffn_in_weight_FD)
        inner = graph.node("BiasGelu", inner, graph.constant(kernel.ffn_in_bias_F), domain=FUSED)
        return self._scaled(
            block, inner, kernel.ffn_out_weight_DF, kernel.ffn_out_bias_D, block.ffn_gain
        )

    def _scaled(
        self, block: BlockWeights, values: str, weight: Tensor, bias_D: Tensor, gain: Tensor
    ) -> tuple[str, Tensor]:
        """Return (gain * weight * values, gain * bias); the bias is the caller's to add.

        The gain goes into the weight where no other layer has it, so that it costs nothing.
        """
        if self._users[id(block.kernel)] == 1:
            return self._graph.linear(values, weight * gain), bias_D * gain
        product = self._graph.linear(values, weight)
        return self._graph.node("Mul", product, self._graph.constant(gain)), bias_D * gain

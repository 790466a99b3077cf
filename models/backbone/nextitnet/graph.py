"""NextItNet's layers as ONNX nodes, for the newest position."""

# B batch, N positions of a layer, M positions of all layers, D channels, X = 3 * D

from __future__ import annotations

from torch import Tensor

from models.backbone.nextitnet.layers import ConvolutionWeights, NextItNetNewest
from models.backbone.nextitnet.reach import TAPS
from models.onnx_graph import Graph


def write(graph: Graph, newest: NextItNetNewest, hidden: str, norm: tuple[Tensor, Tensor]) -> str:
    """Add the layers and the norm of weight and bias (D) that follows them; return the output.

    `hidden` names (B, N, D), the output is (B, D). The other inputs are those of
    `NextItNetNewest.feed`: where each layer is computed depends on the length that runs.
    """
    blocks, layers = newest.layers.blocks(), len(newest.layers.convolutions)
    taps = graph.input("taps", ["M", TAPS], "int64")
    counts = graph.input("counts", [layers], "int64")
    mask = graph.input("mask", ["B", "M", TAPS, 1])
    kept = graph.input("kept", ["K"], "int64")
    kept_counts = graph.input("kept_counts", [len(blocks)], "int64")
    taps_of = iter(graph.nodes("Split", (taps, counts), layers, axis=0))
    mask_of = iter(graph.nodes("Split", (mask, counts), layers, axis=1))
    kept_of = graph.nodes("Split", (kept, kept_counts), len(blocks), axis=0)
    for block, places in zip(blocks, kept_of, strict=True):
        values = hidden
        for layer in block:
            values = _convolve(graph, layer, values, next(taps_of), next(mask_of))
        hidden = graph.node("Add", graph.node("Gather", hidden, places, axis=1), values)
    width = len(norm[0])
    return graph.norm(graph.node("Reshape", hidden, graph.shape(-1, width)), *norm)


def _convolve(graph: Graph, layer: ConvolutionWeights, values: str, taps: str, mask: str) -> str:
    """Return ReLU(norm(convolution)) where the layer is computed."""
    kernel = layer.kernel
    gathered = graph.node("Mul", graph.node("Gather", values, taps, axis=1), mask)
    joined = graph.node("Reshape", gathered, graph.shape(0, -1, kernel.weight_DX.shape[1]))
    product = graph.linear(joined, kernel.weight_DX)
    product = graph.node("Add", product, graph.constant(kernel.bias_D))
    return graph.node("Relu", graph.norm(product, layer.norm_weight_D, layer.norm_bias_D))

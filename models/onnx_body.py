"""The body in ONNX Runtime: one graph per submodel, built from its weights when it is loaded.

The graph is written node by node with ONNX Runtime's own fused operations; no exporter runs. It
takes embedded histories, so the tables stay outside and exist once. Batch and length are free.
"""

# B batch, L length, N positions that are computed, E embedding width, D hidden width

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from onnx import ModelProto

from models.arrays import Floats, Ids
from models.backbone.contract import NewestLayers
from models.backbone.nextitnet.graph import write as write_nextitnet
from models.backbone.nextitnet.layers import NextItNetNewest
from models.backbone.transformer.graph import write as write_transformer
from models.backbone.transformer.layers import TransformerNewest
from models.body import Body, TorchBody
from models.network import NetworkWeights
from models.onnx_graph import Graph, session

log = logging.getLogger(__name__)

# What writes the layers into a graph, by their kind; see the functions named.
_WRITERS: Mapping[type[Any], Callable[..., str]] = MappingProxyType(
    {TransformerNewest: write_transformer, NextItNetNewest: write_nextitnet}
)
_TOLERANCE = 1e-4
_TRIAL = (1, 7, 20)  # lengths of histories


class OnnxBody:
    """Runs a submodel on the calling thread alone; no thread of its own is started."""

    def __init__(self, weights: NetworkWeights) -> None:
        newest = weights.layers.newest()
        self._feed = newest.feed  # a Transformer's lets go of the folded products
        self._session = session(build_graph(weights, newest))
        self._outputs = [one.name for one in self._session.get_outputs()]

    def __call__(self, embedded_BLE: Floats, lengths_B: Ids) -> Floats:
        """Return query_BE float32; see `Body`."""
        query_BE: Floats = self._session.run(self._outputs, self._feed(embedded_BLE, lengths_B))[0]
        return query_BE


def checked_body(weights: NetworkWeights) -> Body:
    """Return the ONNX Runtime body once it has agreed with torch on a small batch.

    Where it cannot be built or disagrees, the torch body is returned and a warning logged: slower,
    and right.
    """
    torch_body = TorchBody(weights)
    try:
        body = OnnxBody(weights)
        lengths_B = np.array(_TRIAL, dtype=np.int64)
        shape = (len(_TRIAL), max(_TRIAL), weights.input_weight_DE.shape[1])
        embedded_BLE = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        expected_BE = torch_body(embedded_BLE, lengths_B)
        scale = max(1.0, float(np.abs(expected_BE).max()))
        difference = float(np.abs(body(embedded_BLE, lengths_B) - expected_BE).max()) / scale
    except Exception:
        log.warning("ONNX Runtime refused %s; torch runs it", weights.submodel.name, exc_info=True)
        return torch_body
    if not difference <= _TOLERANCE:
        log.warning(
            "ONNX Runtime differs from torch by %.2g on %s; torch runs it",
            difference,
            weights.submodel.name,
        )
        return torch_body
    return body


def build_graph(weights: NetworkWeights, newest: NewestLayers) -> ModelProto:
    """Return the graph from the layers' feed to `query`; `newest` are those of `weights`.

    KeyError for layers that have no ONNX form.
    """
    graph = Graph()
    width = weights.input_weight_DE.shape[1]
    embedded = graph.input("embedded", ["B", "N", width])
    hidden = graph.linear(embedded, weights.input_weight_DE)
    hidden = graph.node("Add", hidden, graph.constant(weights.input_bias_D))
    norm = weights.norm_weight_D, weights.norm_bias_D
    normed = _WRITERS[type(newest)](graph, newest, hidden, norm)
    query = graph.gemm(normed, weights.output_weight_ED, weights.output_bias_E)
    graph.output(query, ["B", width])
    return graph.model(weights.submodel.name)

"""The body in ONNX Runtime: one graph per submodel, built from its weights when it is loaded.

The graph is written node by node with ONNX Runtime's own fused operations; no exporter runs. It
takes embedded histories, so the tables stay outside and exist once. Batch and length are free.
"""

# B batch, L length, E embedding width, D hidden width, H heads, X = H * D

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import onnxruntime
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor

from models.body import Body, Floats, Ids, TorchBody, fold_newest, newest_mask
from models.network import NORM_EPS, BlockWeights, NetworkWeights

log = logging.getLogger(__name__)

_FUSED = "com.microsoft"
_OPSETS = (("", 20), (_FUSED, 1))
_IR_VERSION = 9
_TOLERANCE = 1e-4
_TRIAL = (3, 5)


class OnnxBody:
    """Runs a submodel on the calling thread alone; no thread of its own is started."""

    def __init__(self, weights: NetworkWeights) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_mem_pattern = False  # it remembers shapes, and here they vary
        self._session = onnxruntime.InferenceSession(
            build_graph(weights).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, embedded_BLE: Floats, lengths_B: Ids) -> Floats:
        """Return query_BE float32; see `Body`."""
        batch, length, _ = embedded_BLE.shape
        places_B2 = np.empty((batch, 2), dtype=np.int64)
        places_B2[:, 0] = np.arange(batch)
        np.subtract(lengths_B, 1, out=places_B2[:, 1])
        feed = {
            "embedded": embedded_BLE,
            "places": places_B2,
            "mask": newest_mask(lengths_B, length),
        }
        query_BE: Floats = self._session.run(None, feed)[0]
        return query_BE


def checked_body(weights: NetworkWeights) -> Body:
    """Return the ONNX Runtime body once it has agreed with torch on a small batch.

    Where it cannot be built or disagrees, the torch body is returned and a warning logged: slower,
    and right.
    """
    torch_body = TorchBody(weights)
    try:
        body = OnnxBody(weights)
        batch, length = _TRIAL
        length = min(length, len(weights.positions_LE))
        generator = np.random.default_rng(0)
        shape = (batch, length, weights.input_weight_DE.shape[1])
        embedded_BLE = generator.standard_normal(shape, dtype=np.float32)
        lengths_B = np.minimum(np.arange(1, batch + 1, dtype=np.int64), length)
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


def build_graph(weights: NetworkWeights) -> ModelProto:
    """Return the graph: (embedded, places, mask) -> query, all float32 but `places` int64.

    `places` (B, 2) says batch row and newest position; `mask` is `newest_mask`.
    """
    return _Graph(weights).model()


class _Graph:
    """Collects nodes and constants; every method returns the name of what it computed."""

    def __init__(self, weights: NetworkWeights) -> None:
        self._weights = weights
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []

    def model(self) -> ModelProto:
        weights = self._weights
        hidden = self._linear("embedded", weights.input_weight_DE)
        hidden = self._node("Add", hidden, self._constant(weights.input_bias_D))
        first, last = weights.blocks[0], weights.blocks[-1]
        normed = self._node(
            "LayerNormalization",
            hidden,
            self._constant(first.norm_attention_weight_D),
            self._constant(first.norm_attention_bias_D),
            epsilon=NORM_EPS,
        )
        for block, following in zip(weights.blocks[:-1], weights.blocks[1:], strict=True):
            attended = self._attend_all(block, normed)
            normed, hidden = self._feed_forward_input(block, attended, hidden, block.out_bias_D)
            fed = self._feed_forward(block, normed)
            normed, hidden = self._add_and_norm(
                fed,
                hidden,
                following.norm_attention_weight_D,
                following.norm_attention_bias_D,
                block.ffn_out_bias_D,
            )
        attended, out_bias_D = self._attend_newest(normed)
        newest = self._node("GatherND", hidden, "places")
        normed, newest = self._feed_forward_input(last, attended, newest, out_bias_D)
        normed, _ = self._add_and_norm(
            self._feed_forward(last, normed),
            newest,
            weights.norm_weight_D,
            weights.norm_bias_D,
            last.ffn_out_bias_D,
        )
        query = self._gemm(normed, weights.output_weight_ED, weights.output_bias_E)
        width = weights.input_weight_DE.shape[1]
        graph = helper.make_graph(
            self._nodes,
            weights.submodel.name,
            [
                helper.make_tensor_value_info("embedded", TensorProto.FLOAT, ["B", "L", width]),
                helper.make_tensor_value_info("places", TensorProto.INT64, ["B", 2]),
                helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["B", 1, "L"]),
            ],
            [helper.make_tensor_value_info(query, TensorProto.FLOAT, ["B", width])],
            self._constants,
        )
        opsets = [helper.make_opsetid(domain, version) for domain, version in _OPSETS]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)

    def _attend_all(self, block: BlockWeights, normed: str) -> str:
        mixed = self._node(
            "Attention",
            normed,
            self._constant(block.qkv_weight_3DD.T),
            self._constant(block.qkv_bias_3D),
            domain=_FUSED,
            num_heads=self._weights.num_heads,
            unidirectional=1,
        )
        return self._linear(mixed, block.out_weight_DD)

    def _attend_newest(self, normed: str) -> tuple[str, Tensor]:
        heads = self._weights.num_heads
        width = self._weights.input_weight_DE.shape[0]
        folded = fold_newest(self._weights.blocks[-1], heads)
        newest = self._node("GatherND", normed, "places")
        query = self._gemm(newest, folded.query_weight_XD, folded.query_bias_X)
        query = self._node("Reshape", query, self._shape(-1, heads, width))
        scores = self._node("FusedMatMul", query, normed, domain=_FUSED, transB=1)
        attention = self._node("Softmax", self._node("Add", scores, "mask"), axis=-1)
        mixed = self._node("MatMul", attention, normed)
        mixed = self._node("Reshape", mixed, self._shape(-1, heads * width))
        return self._linear(mixed, folded.out_weight_DX), folded.out_bias_D

    def _feed_forward_input(
        self, block: BlockWeights, attended: str, hidden: str, out_bias_D: Tensor
    ) -> tuple[str, str]:
        return self._add_and_norm(
            attended, hidden, block.norm_ffn_weight_D, block.norm_ffn_bias_D, out_bias_D
        )

    def _feed_forward(self, block: BlockWeights, normed: str) -> str:
        inner = self._linear(normed, block.ffn_in_weight_FD)
        inner = self._node("BiasGelu", inner, self._constant(block.ffn_in_bias_F), domain=_FUSED)
        return self._linear(inner, block.ffn_out_weight_DF)

    def _add_and_norm(
        self, added: str, hidden: str, weight_D: Tensor, bias_D: Tensor, added_bias_D: Tensor
    ) -> tuple[str, str]:
        """Return (norm of the sum, the sum) of `hidden`, `added` and its bias."""
        name = f"t{len(self._nodes)}"
        inputs = [added, hidden, *(self._constant(t) for t in (weight_D, bias_D, added_bias_D))]
        self._nodes.append(
            helper.make_node(
                "SkipLayerNormalization",
                inputs,
                [name, "", "", f"{name}s"],
                domain=_FUSED,
                epsilon=NORM_EPS,
            )
        )
        return name, f"{name}s"

    def _linear(self, values: str, weight: Tensor) -> str:
        return self._node("MatMul", values, self._constant(weight.T))

    def _gemm(self, values: str, weight: Tensor, bias: Tensor) -> str:
        return self._node("Gemm", values, self._constant(weight.T), self._constant(bias))

    def _node(self, operation: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        name = f"t{len(self._nodes)}"
        self._nodes.append(
            helper.make_node(operation, list(inputs), [name], domain=domain, **attributes)
        )
        return name

    def _constant(self, tensor: Tensor) -> str:
        return self._store(np.ascontiguousarray(tensor.detach().numpy()))

    def _shape(self, *sizes: int) -> str:
        return self._store(np.asarray(sizes, dtype=np.int64))

    def _store(self, values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> str:
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(values, name))
        return name

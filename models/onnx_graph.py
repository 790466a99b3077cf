"""Collects the nodes, constants and inputs of one ONNX graph, with the parts that layers share."""

# D hidden width

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from torch import Tensor

from models.norm import NORM_EPS

FUSED = "com.microsoft"
_OPSETS = (("", 20), (FUSED, 1))
_IR_VERSION = 9
# It would put the slow fused node back; see `Graph.add_and_norm`.
_DISABLED = ["SkipLayerNormFusion"]
_TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}


class Graph:
    """Every method that adds a node returns the name of what it computes."""

    def __init__(self) -> None:
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []
        self._inputs: list[ValueInfoProto] = []
        self._outputs: list[ValueInfoProto] = []
        # With the tensor itself: while it lives, its address is nobody else's.
        self._stored: dict[tuple[object, ...], tuple[str, Tensor]] = {}

    def model(self, name: str) -> ModelProto:
        """Return the model of everything collected."""
        graph = helper.make_graph(self._nodes, name, self._inputs, self._outputs, self._constants)
        opsets = [helper.make_opsetid(domain, version) for domain, version in _OPSETS]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)

    def input(self, name: str, shape: list[str | int], dtype: str = "float32") -> str:
        """Add an input; names in `shape` are free sizes."""
        self._inputs.append(helper.make_tensor_value_info(name, _TYPES[dtype], shape))
        return name

    def output(self, name: str, shape: list[str | int]) -> None:
        """Make the float32 `name` the graph's output."""
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def node(self, operation: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node of one output."""
        (name,) = self.nodes(operation, inputs, 1, domain=domain, **attributes)
        return name

    def nodes(
        self, operation: str, inputs: tuple[str, ...], outputs: int, **attributes: Any
    ) -> list[str]:
        """Add a node of several outputs; return their names."""
        names = [f"t{len(self._nodes)}.{place}" for place in range(outputs)]
        self._nodes.append(helper.make_node(operation, list(inputs), names, **attributes))
        return names

    def constant(self, tensor: Tensor) -> str:
        """Store a tensor; one that was stored before, also transposed alike, is not again."""
        key = (tensor.data_ptr(), tensor.shape, tensor.stride())
        if key not in self._stored:
            name = self._store(np.ascontiguousarray(tensor.detach().numpy()))
            self._stored[key] = name, tensor
        return self._stored[key][0]

    def shape(self, *sizes: int) -> str:
        """Store a shape."""
        return self._store(np.asarray(sizes, dtype=np.int64))

    def linear(self, values: str, weight: Tensor) -> str:
        """Multiply by `weight` (out, in), no bias."""
        return self.node("MatMul", values, self.constant(weight.T))

    def gemm(self, values: str, weight: Tensor, bias: Tensor) -> str:
        """Multiply the rows of a matrix by `weight` (out, in) and add `bias`."""
        return self.node("Gemm", values, self.constant(weight.T), self.constant(bias))

    def norm(self, values: str, weight_D: Tensor, bias_D: Tensor) -> str:
        """Norm over the last axis."""
        constants = self.constant(weight_D), self.constant(bias_D)
        return self.node("LayerNormalization", values, *constants, epsilon=NORM_EPS)

    def add_and_norm(
        self, added: str, hidden: str, weight_D: Tensor, bias_D: Tensor, added_bias_D: Tensor
    ) -> tuple[str, str]:
        """Return (norm of the sum, the sum) of `hidden`, `added` and its bias.

        Three nodes: the fused one takes two to four times as long (ADR 5).
        """
        total = self.node("Add", self.node("Add", added, hidden), self.constant(added_bias_D))
        return self.norm(total, weight_D, bias_D), total

    def _store(self, values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> str:
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(values, name))
        return name


def session(model: ModelProto) -> onnxruntime.InferenceSession:
    """Return the model ready to run on the calling thread alone; no thread of its own starts."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_mem_pattern = False  # it remembers shapes, and here they vary
    return onnxruntime.InferenceSession(
        model.SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=_DISABLED,
    )

"""Which runtime executes a submodel's body: time, load time, memory and agreement, side by side.

Every runtime gets the same embedded histories and the same folded weights; what is timed is the
body alone. CPU seconds are the process's, so a runtime's own threads are counted.
"""

# B batch, L length, E embedding width

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.machine import machine
from bench.report import Report, Value
from bench.synthetic_checkpoint import SyntheticModel
from models.arrays import Floats, Ids
from models.backbone.contract import NewestLayers
from models.body import Body, TorchBody
from models.config import Submodel
from models.network import NetworkWeights
from models.onnx_body import OnnxBody
from models.submodel import extract
from models.supernet import Supernet

_SHAPES = ((1, 8), (1, 50), (4, 50), (16, 16), (16, 50))
_LEAST_SECONDS = 0.002  # a timed round repeats the call for at least so long


class _Module(nn.Module):
    """The torch body as a module, for what compiles modules."""

    def __init__(self, weights: NetworkWeights) -> None:
        super().__init__()
        self._body = TorchBody(weights)

    def forward(self, embedded_BLE: Tensor, places_B2: Tensor, mask_B1L: Tensor) -> Tensor:
        return self._body.forward({"embedded": embedded_BLE, "places": places_B2, "mask": mask_B1L})


@dataclass(frozen=True, slots=True)
class _TensorBody:
    """A compiled function of tensors as a body."""

    function: Callable[..., Tensor]
    newest: NewestLayers

    def __call__(self, embedded_BLE: Floats, lengths_B: Ids) -> Floats:
        feed = self.newest.feed(embedded_BLE, lengths_B)
        query_BE: Floats = self.function(*map(torch.from_numpy, feed.values())).numpy()
        return query_BE


def _example(weights: NetworkWeights) -> tuple[Tensor, ...]:
    embedded_BLE = np.zeros((3, 7, weights.input_weight_DE.shape[1]), dtype=np.float32)
    feed = weights.layers.newest().feed(embedded_BLE, np.array([3, 5, 7]))
    return tuple(map(torch.from_numpy, feed.values()))


def _torchscript(weights: NetworkWeights) -> Body:
    traced = torch.jit.trace(_Module(weights).eval(), _example(weights))  # type: ignore[no-untyped-call]
    return _TensorBody(torch.jit.freeze(traced), weights.layers.newest())


def _aot_inductor(weights: NetworkWeights) -> Body:
    batch, length = torch.export.Dim("batch", min=1), torch.export.Dim("length", min=1)
    shapes = ({0: batch, 1: length}, {0: batch}, {0: batch, 2: length})
    program = torch.export.export(_Module(weights).eval(), _example(weights), dynamic_shapes=shapes)
    with TemporaryDirectory() as folder:
        path = str(Path(folder) / "body.pt2")
        inductor: Any = torch._inductor
        inductor.aoti_compile_and_package(program, package_path=path)
        return _TensorBody(inductor.aoti_load_package(path), weights.layers.newest())


def _openvino(weights: NetworkWeights) -> Body:
    import openvino

    width = weights.input_weight_DE.shape[1]
    model = openvino.convert_model(
        _Module(weights).eval(),
        example_input=_example(weights),
        input=[([-1, -1, width],), ([-1, 2],), ([-1, 1, -1],)],
    )
    options = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    newest = weights.layers.newest()
    request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()

    def run(embedded_BLE: Floats, lengths_B: Ids) -> Floats:
        inputs = list(newest.feed(embedded_BLE, lengths_B).values())
        query_BE: Floats = np.array(request.infer(inputs, share_inputs=True)[0])
        return query_BE

    return run


_RUNTIMES: dict[str, Callable[[NetworkWeights], Body]] = {
    "torch": TorchBody,
    "torchscript": _torchscript,
    "onnxruntime": OnnxBody,
    "openvino": _openvino,
    "aot-inductor": _aot_inductor,
}
_USUAL = ("torch", "torchscript", "onnxruntime")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this measurement."""
    parser.add_argument("--rounds", type=int, default=21, help="interleaved rounds (default 21)")
    parser.add_argument(
        "--runtimes",
        nargs="+",
        choices=tuple(_RUNTIMES),
        default=_USUAL,
        help="openvino needs `pip install openvino`, aot-inductor a C++ compiler",
    )
    parser.add_argument("--submodels", nargs="+", help="names such as d1-w32-e32; default: five")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> None:
    """Measure and print; ValueError when an argument is wrong."""
    if args.rounds < 1:
        raise ValueError(f"--rounds is {args.rounds}; it must be at least 1")
    torch.set_num_threads(1)
    model = SyntheticModel(items=3000)
    supernet = Supernet(model.config)
    supernet.initialise(torch.Generator().manual_seed(model.seed))
    wanted = [Submodel.parse(name) for name in args.submodels or ()] or list(model.served)
    rows: list[dict[str, Value]] = []
    for submodel in wanted:
        rows += _measure(extract(supernet, submodel), args.runtimes, args.rounds)
    Report(
        name="runtimes",
        method=[
            f"Bodies of a random supernet, {args.rounds} interleaved rounds, one thread;",
            "figures are medians of process CPU microseconds per call; MiB is the growth of the",
            "resident set while loading (the first of its kind pays for its library);",
            "error is the largest difference from torch, relative to the largest output.",
        ],
        machine=machine(),
        rows=rows,
    ).show(as_json=args.json)


@torch.inference_mode()
def _measure(
    weights: NetworkWeights, names: tuple[str, ...], rounds: int
) -> list[dict[str, Value]]:
    bodies: dict[str, Body] = {}
    rows: dict[str, dict[str, Value]] = {}
    for name in names:
        before, began = _resident(), time.perf_counter()
        with torch.inference_mode(False):
            bodies[name] = _RUNTIMES[name](weights)
        rows[name] = {
            "submodel": weights.submodel.name,
            "runtime": name,
            "load ms": round(1e3 * (time.perf_counter() - began), 1),
            "MiB": round((_resident() - before) / 2**20, 1),
        }
    errors = dict.fromkeys(names, 0.0)
    generator = np.random.default_rng(0)
    reference = TorchBody(weights)
    for batch, length in _SHAPES:
        shape = (batch, length, weights.input_weight_DE.shape[1])
        embedded_BLE = generator.standard_normal(shape, dtype=np.float32)
        lengths_B = generator.integers(max(1, length // 2), length + 1, batch)
        expected_BE = reference(embedded_BLE, lengths_B)
        for name, body in bodies.items():
            for _ in range(3):  # warm: some compile or plan at the first call of a shape
                found_BE = body(embedded_BLE, lengths_B)
            worst = float(np.abs(found_BE - expected_BE).max() / np.abs(expected_BE).max())
            errors[name] = max(errors[name], worst)
        spent = _interleaved(bodies, embedded_BLE, lengths_B, rounds)
        for name, seconds in spent.items():
            rows[name][f"B{batch} L{length}"] = round(1e6 * statistics.median(seconds))
    for name in names:
        rows[name]["error"] = f"{errors[name]:.0e}"
    return list(rows.values())


def _interleaved(
    bodies: dict[str, Body], embedded_BLE: Floats, lengths_B: Ids, rounds: int
) -> dict[str, list[float]]:
    """Return the CPU seconds per call of each body, one value per round."""
    spent: dict[str, list[float]] = {name: [] for name in bodies}
    for _ in range(rounds):
        for name, body in bodies.items():
            calls, began = 0, time.process_time()
            while (seconds := time.process_time() - began) < _LEAST_SECONDS:
                body(embedded_BLE, lengths_B)
                calls += 1
            spent[name].append(seconds / calls)
    return spent


def _resident() -> int:
    """Return this process's resident bytes, 0 where the system does not tell."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")

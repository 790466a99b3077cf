"""Forgery of model.safetensors: digests and names fit, the tensors or their header are hostile."""

from __future__ import annotations

import json
import pickle
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load, save

from models.checkpoint.errors import CheckpointError, Reason
from models.checkpoint.read import read_checkpoint

if TYPE_CHECKING:
    from tests.models.checkpoint.conftest import Tiny

Tensors = dict[str, torch.Tensor]
TABLE = "supernet.table"


def reason_of(path: Path) -> Reason:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    assert len(str(caught.value)) < 1000
    return caught.value.reason


def header_of(data: bytes) -> tuple[dict[str, Any], bytes]:
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def with_header(data: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    header, body = header_of(data)
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def _set(tensors: Tensors, name: str, value: torch.Tensor) -> None:
    tensors[name] = value


def _spoil(tensors: Tensors, name: str, value: float) -> None:
    tensors[name].view(-1)[-1] = value


def _ints(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


TENSORS: list[tuple[str, Callable[[Tensors], object], Reason]] = [
    ("missing", lambda t: t.pop(TABLE), Reason.TENSOR_NAMES),
    ("unknown", lambda t: _set(t, "supernet.backdoor", torch.ones(1)), Reason.TENSOR_NAMES),
    ("no memory", lambda t: t.pop("memory.items"), Reason.TENSOR_NAMES),
    ("transposed", lambda t: _set(t, TABLE, t[TABLE].T.contiguous()), Reason.TENSOR_SHAPE),
    ("flat", lambda t: _set(t, TABLE, t[TABLE].reshape(-1)), Reason.TENSOR_SHAPE),
    ("empty", lambda t: _set(t, TABLE, torch.empty(0, 4)), Reason.TENSOR_SHAPE),
    ("float64", lambda t: _set(t, TABLE, t[TABLE].double()), Reason.TENSOR_DTYPE),
    ("float16", lambda t: _set(t, TABLE, t[TABLE].half()), Reason.TENSOR_DTYPE),
    ("int offsets", lambda t: _set(t, "memory.weights", _ints(1, 1, 1, 1)), Reason.TENSOR_DTYPE),
    ("NaN", lambda t: _spoil(t, TABLE, float("nan")), Reason.NOT_FINITE),
    ("infinity", lambda t: _spoil(t, "router.output.bias", float("inf")), Reason.NOT_FINITE),
    ("NaN scalar", lambda t: _spoil(t, "supernet.memory_gain", float("nan")), Reason.NOT_FINITE),
    ("NaN memory", lambda t: _spoil(t, "memory.weights", float("nan")), Reason.NOT_FINITE),
    ("negative memory", lambda t: _spoil(t, "memory.weights", -1.0), Reason.BAD_MEMORY),
    ("offset start", lambda t: t["memory.offsets"].add_(1), Reason.BAD_MEMORY),
    ("offset end", lambda t: _spoil(t, "memory.offsets", 2**31 - 1), Reason.BAD_MEMORY),
    ("offset falls", lambda t: _set_offsets(t, 0, 0, 3, 2, 3, 3, 4), Reason.BAD_MEMORY),
    (
        "offset wraps",
        lambda t: _set_offsets(t, 0, 2**31 - 1, -(2**31), 3, 3, 3, 4),
        Reason.BAD_MEMORY,
    ),
    ("row too long", lambda t: _set_offsets(t, 0, 0, 4, 4, 4, 4, 4), Reason.BAD_MEMORY),
    ("offsets cut", lambda t: _set_offsets(t, 0, 4), Reason.TENSOR_SHAPE),
    ("item 0", lambda t: _spoil(t, "memory.items", 0), Reason.BAD_MEMORY),
    ("item 6", lambda t: _spoil(t, "memory.items", 6), Reason.BAD_MEMORY),
    ("item -1", lambda t: _spoil(t, "memory.items", -1), Reason.BAD_MEMORY),
    ("fewer weights", lambda t: _set(t, "memory.weights", torch.ones(3)), Reason.BAD_MEMORY),
    (
        "square items",
        lambda t: _set(t, "memory.items", _ints(1, 2).view(1, 2)),
        Reason.TENSOR_SHAPE,
    ),
]


def _set_offsets(tensors: Tensors, *values: int) -> None:
    tensors["memory.offsets"] = _ints(*values)


@pytest.mark.parametrize(
    ("change", "reason"), [case[1:] for case in TENSORS], ids=[case[0] for case in TENSORS]
)
def test_forged_tensors_are_refused(
    path: Path, tiny: Tiny, change: Callable[[Tensors], object], reason: Reason
) -> None:
    tensors = load((path / "model.safetensors").read_bytes())
    change(tensors)
    (path / "model.safetensors").write_bytes(save(tensors))
    assert reason_of(tiny.sign(path)) is reason


HEADERS: list[tuple[str, Callable[[bytes], bytes], Reason]] = [
    ("empty file", lambda data: b"", Reason.BAD_HEADER),
    ("seven bytes", lambda data: data[:7], Reason.BAD_HEADER),
    ("huge header", lambda data: struct.pack("<Q", 2**63) + data[8:], Reason.BAD_HEADER),
    ("large header", lambda data: struct.pack("<Q", 2**21) + b" " * 2**21, Reason.BAD_HEADER),
    ("header past the end", lambda data: struct.pack("<Q", 99_999) + data[8:], Reason.BAD_HEADER),
    ("header of brackets", lambda data: struct.pack("<Q", 9000) + b"[" * 9000, Reason.BAD_HEADER),
    ("header list", lambda data: struct.pack("<Q", 2) + b"[]", Reason.BAD_HEADER),
    ("pickle", lambda data: pickle.dumps({"table": [1.0]}), Reason.BAD_HEADER),
    ("zip archive", lambda data: b"PK\x03\x04" + b"\x00" * 200, Reason.BAD_HEADER),
    ("data cut", lambda data: data[:-4], Reason.BAD_HEADER),
    ("data grown", lambda data: data + b"\x00" * 4, Reason.BAD_HEADER),
    (
        "overlap",
        lambda data: with_header(data, lambda h: h[TABLE].update(data_offsets=[0, 96])),
        Reason.BAD_HEADER,
    ),
    (
        "offsets beyond",
        lambda data: with_header(data, lambda h: h[TABLE].update(data_offsets=[0, 2**62])),
        Reason.BAD_HEADER,
    ),
    (
        "negative offsets",
        lambda data: with_header(data, lambda h: h[TABLE].update(data_offsets=[-96, 0])),
        Reason.BAD_HEADER,
    ),
    (
        "shape of text",
        lambda data: with_header(data, lambda h: h[TABLE].update(shape="64")),
        Reason.BAD_HEADER,
    ),
    (
        "declared shape",
        lambda data: with_header(data, lambda h: h[TABLE].update(shape=[2**40, 2**40])),
        Reason.TENSOR_SHAPE,
    ),
    (
        "declared dtype",
        lambda data: with_header(data, lambda h: h[TABLE].update(dtype="F8_E4M3")),
        Reason.TENSOR_DTYPE,
    ),
    (
        "no dtype",
        lambda data: with_header(data, lambda h: h[TABLE].pop("dtype")),
        Reason.TENSOR_DTYPE,
    ),
    (
        "free size bomb",
        lambda data: with_header(data, lambda h: h["memory.items"].update(shape=[2**62])),
        Reason.BAD_HEADER,
    ),
    (
        "entry list",
        lambda data: with_header(data, lambda h: h.update({TABLE: []})),
        Reason.BAD_HEADER,
    ),
]


@pytest.mark.parametrize(
    ("change", "reason"), [case[1:] for case in HEADERS], ids=[case[0] for case in HEADERS]
)
def test_forged_safetensors_headers_are_refused(
    path: Path, tiny: Tiny, change: Callable[[bytes], bytes], reason: Reason
) -> None:
    file = path / "model.safetensors"
    file.write_bytes(change(file.read_bytes()))
    assert reason_of(tiny.sign(path)) is reason


@pytest.mark.parametrize("seed", range(4))
def test_random_forgeries_never_raise_anything_else(path: Path, tiny: Tiny, seed: int) -> None:
    """Signed bit flips: some are harmless values and load, none crashes the reader."""
    rng = random.Random(seed)
    names = ["model.safetensors", "items.jsonl", "popular.json", "golden.jsonl"]
    sound = {name: (path / name).read_bytes() for name in names}
    refused = 0
    for _ in range(60):
        name = rng.choice(names)
        data = bytearray(sound[name])
        # Headers and JSON stand in front; most flips should hit them.
        for _ in range(rng.choice((1, 1, 4))):
            data[rng.randrange(min(len(data), 3000))] ^= 1 << rng.randrange(8)
        (path / name).write_bytes(data)
        path = tiny.sign(path)
        try:
            read_checkpoint(path)
        except CheckpointError:
            refused += 1
        (path / name).write_bytes(sound[name])
    assert refused > 20
    read_checkpoint(tiny.sign(path))

"""model.safetensors: verified before and after its bytes become tensors; memory is bounded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from models.checkpoint.errors import CheckpointError, Reason
from models.checkpoint.manifest import TENSORS_FILE
from models.checkpoint.strict_json import parse_json
from models.config import SupernetConfig

HEADER_LIMIT: Final = 2**20
_DTYPES: Final = {"F32": torch.float32, "I32": torch.int32, "I64": torch.int64}
_FINITE_CHUNK: Final = 2**22

OFFSETS, ITEMS, WEIGHTS = "memory.offsets", "memory.items", "memory.weights"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """Shape and dtype of one tensor; a size of -1 is free."""

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether `shape` is this shape, free sizes aside."""
        return len(shape) == len(self.shape) and all(
            want in (-1, have) for want, have in zip(self.shape, shape, strict=True)
        )


def memory_specs(config: SupernetConfig) -> dict[str, TensorSpec]:
    """Return the specs of the transition memory's tensors; empty when there is no memory."""
    if config.memory is None:
        return {}
    return {
        OFFSETS: TensorSpec(shape=(config.num_items + 2,), dtype=torch.int32),
        ITEMS: TensorSpec(shape=(-1,), dtype=torch.int32),
        WEIGHTS: TensorSpec(shape=(-1,)),
    }


def render_tensors(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """Return the safetensors bytes of `tensors`, copied to contiguous CPU memory."""
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})


def parse_tensors(
    data: bytes, specs: Mapping[str, TensorSpec], config: SupernetConfig
) -> dict[str, torch.Tensor]:
    """Return the tensors in `data`: exactly those of `specs` and the memory's, all finite.

    Raises CheckpointError `bad_header`, `tensor_names`, `tensor_dtype`, `tensor_shape`,
    `not_finite` or `bad_memory`; names, dtypes and shapes are refused before any tensor exists.
    """
    _check_header(_header(data), {**specs, **memory_specs(config)})
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise _bad_header(str(error)[:200]) from None
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not _all_finite(tensor):
            raise CheckpointError(Reason.NOT_FINITE, f"tensor {name} holds NaN or infinity")
    if config.memory is not None:
        _check_memory(tensors, config.num_items, config.memory.row_limit)
    return tensors


def _header(data: bytes) -> dict[str, Any]:
    if len(data) < 8:
        raise _bad_header("the file is shorter than its header")
    length = int.from_bytes(data[:8], "little")
    if length > HEADER_LIMIT:
        raise _bad_header(f"the header claims {length} bytes; at most {HEADER_LIMIT} are read")
    if length > len(data) - 8:
        raise _bad_header("the header is longer than the file")
    try:
        header = parse_json(data[8 : 8 + length], f"the header of {TENSORS_FILE}")
    except CheckpointError as error:
        raise _bad_header(str(error)) from None
    if not isinstance(header, dict):
        raise _bad_header("the header must be an object")
    header.pop("__metadata__", None)
    return header


def _check_header(header: dict[str, Any], specs: Mapping[str, TensorSpec]) -> None:
    if set(header) != set(specs):
        unknown = sorted(name[:80] for name in set(header) - set(specs))[:3]
        missing = sorted(set(specs) - set(header))[:3]
        raise CheckpointError(
            Reason.TENSOR_NAMES,
            f"{TENSORS_FILE} has unknown tensors {unknown} and lacks {missing} (first three each)",
        )
    for name, entry in header.items():
        if not isinstance(entry, dict):
            raise _bad_header(f"the entry of {name} must be an object")
        dtype = entry.get("dtype")
        if not isinstance(dtype, str) or _DTYPES.get(dtype) is not specs[name].dtype:
            raise CheckpointError(
                Reason.TENSOR_DTYPE,
                f"tensor {name} is {str(dtype)[:20]}, not {specs[name].dtype}",
            )
        shape = entry.get("shape")
        if not isinstance(shape, list) or not all(type(size) is int for size in shape):
            raise _bad_header(f"the shape of {name} must be a list of integers")
        if len(shape) > 8 or not specs[name].fits(tuple(shape)):
            raise CheckpointError(
                Reason.TENSOR_SHAPE,
                f"tensor {name} has shape {shape[:8]}, the architecture {specs[name].shape}",
            )


def _all_finite(tensor: torch.Tensor) -> bool:
    # In pieces: a mask over a table of a million rows would cost a quarter of its memory.
    flat = tensor.reshape(-1)
    return all(bool(torch.isfinite(part).all()) for part in torch.split(flat, _FINITE_CHUNK))


def _check_memory(tensors: Mapping[str, torch.Tensor], num_items: int, row_limit: int) -> None:
    offsets, items, weights = tensors[OFFSETS], tensors[ITEMS], tensors[WEIGHTS]
    # int64: the difference of two forged int32 offsets may wrap around.
    lengths = offsets[1:].long() - offsets[:-1].long()
    if int(offsets[0]) != 0 or int(offsets[-1]) != len(items) or len(items) != len(weights):
        raise _bad_memory("offsets must run from 0 to the number of items and weights")
    if bool((lengths < 0).any()) or int(lengths.max()) > row_limit:
        raise _bad_memory(f"rows must hold 0 to {row_limit} successors")
    if len(items) and not 1 <= int(items.min()) <= int(items.max()) <= num_items:
        raise _bad_memory(f"items must lie in 1..{num_items}")
    if len(weights) and float(weights.min()) < 0:
        raise _bad_memory("weights must not be negative")


def _bad_header(finding: str) -> CheckpointError:
    return CheckpointError(Reason.BAD_HEADER, f"{TENSORS_FILE} is no safetensors file: {finding}")


def _bad_memory(finding: str) -> CheckpointError:
    return CheckpointError(Reason.BAD_MEMORY, f"transition memory: {finding}")

"""Contiguous copies of weights that are dataclasses of tensors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Weights = TypeVar("Weights", bound="DataclassInstance")


def contiguous(tensor: Tensor) -> Tensor:
    """Return a detached contiguous copy."""
    return tensor.detach().clone(memory_format=torch.contiguous_format)


def own_tensors(weights: DataclassInstance) -> dict[str, Tensor]:
    """Return the fields of `weights` that are tensors, by name."""
    values = ((field.name, getattr(weights, field.name)) for field in fields(weights))
    return {name: value for name, value in values if isinstance(value, Tensor)}


def all_tensors(parts: Iterable[DataclassInstance]) -> tuple[Tensor, ...]:
    """Return the tensors of every part, in order."""
    return tuple(tensor for part in parts for tensor in own_tensors(part).values())


def copied(weights: Weights, **others: Any) -> Weights:
    """Return `weights` with contiguous copies of their own tensors, and `others` in place."""
    copies = {name: contiguous(tensor) for name, tensor in own_tensors(weights).items()}
    return replace(weights, **copies, **others)

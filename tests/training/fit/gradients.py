"""Gradients of one network held against another's."""

from __future__ import annotations

from torch import nn


def check_gradients(ours: nn.Module, theirs: nn.Module) -> None:
    """Hold that every parameter's gradient is the other's, to 1e-4 of its largest number."""
    for (name, left), (_, right) in zip(
        ours.named_parameters(), theirs.named_parameters(), strict=True
    ):
        if right.grad is None:
            assert left.grad is None, name
            continue
        assert left.grad is not None, name
        scale = float(right.grad.abs().max().clamp(min=1e-3))
        assert float((left.grad - right.grad).abs().max()) <= 1e-4 * scale, name

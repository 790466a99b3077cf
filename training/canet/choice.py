"""The router's choice in training: a straight-through draw, and its marginals by axis of the grid.

Axes follow the ascending tuples of the configuration, never a set's order.
"""

# B batch, S submodels in the order of `by_cost`, A values of one axis

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from models.config import Submodel, SupernetConfig
from models.cost import encoder_flops, scoring_flops

_TINY = 1e-20


def by_cost(config: SupernetConfig) -> tuple[Submodel, ...]:
    """Return the whole grid by rising FLOPs at full length, the full network last."""

    def cost(submodel: Submodel) -> int:
        return encoder_flops(config, submodel, config.max_length) + scoring_flops(config, submodel)

    return tuple(sorted(config.submodels, key=cost))


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """One tensor per axis of the grid, the last dimension over the axis' ascending values."""

    emb: Tensor
    width: Tensor
    depth: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """Which submodel has which value: (S, A) float32 of zeros and ones per axis."""

    axes: Axes

    @classmethod
    def of(cls, config: SupernetConfig) -> Membership:
        """Return the membership of the grid in the order of `by_cost`."""
        order = by_cost(config)

        def one_hot(values: tuple[int, ...], chosen: list[int]) -> Tensor:
            places = torch.tensor([values.index(value) for value in chosen])
            return F.one_hot(places, len(values)).float()

        return cls(
            axes=Axes(
                emb=one_hot(config.emb_widths, [s.emb_width for s in order]),
                width=one_hot(config.widths, [s.width for s in order]),
                depth=one_hot(config.depths, [s.depth for s in order]),
            )
        )

    def marginals(self, choice_BS: Tensor) -> Axes:
        """Return each axis' (B, A) shares of a choice whose rows sum to 1."""
        axes = self.axes
        return Axes(
            emb=choice_BS @ axes.emb, width=choice_BS @ axes.width, depth=choice_BS @ axes.depth
        )

    def log_marginals(self, logits_BS: Tensor) -> Axes:
        """Return each axis' (B, A) log-probabilities under the softmax of the logits."""
        log_BS = torch.log_softmax(logits_BS, 1)

        def along(member_SA: Tensor) -> Tensor:
            outside_AS = member_SA.T == 0
            return log_BS[:, None].masked_fill(outside_AS, -torch.inf).logsumexp(2)

        axes = self.axes
        return Axes(emb=along(axes.emb), width=along(axes.width), depth=along(axes.depth))


def draw(logits_BS: Tensor, tau: float, generator: torch.Generator) -> Tensor:
    """Return choice_BS: exactly one-hot draws from the logits' softmax, with a soft gradient.

    The gradient is that of the Gumbel softmax at temperature `tau` (straight-through).
    """
    waits_BS = torch.empty(logits_BS.shape).exponential_(generator=generator).clamp(min=_TINY)
    noise_BS = -torch.log(waits_BS)
    soft_BS = torch.softmax((torch.log_softmax(logits_BS, 1) + noise_BS) / tau, 1)
    hard_BS = F.one_hot(soft_BS.argmax(1), logits_BS.shape[1]).to(soft_BS.dtype)
    return hard_BS + (soft_BS - soft_BS.detach())

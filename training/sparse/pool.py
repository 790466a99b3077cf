"""What the controller knows of a set of pieces that share a budget."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor


class Pool(ABC):
    """Pieces of the tensors `watched`, of which a constant number lives.

    `watched` names the tensors whose gradients decide; a dead piece's weights there are exactly
    0. Tensors are passed in by name at every call, so that parameters, their average and their
    moments can all be told.
    """

    watched: tuple[str, ...]

    @abstractmethod
    def choose_randomly(self, tensors: Mapping[str, Tensor], generator: torch.Generator) -> None:
        """Let a random choice live."""

    @abstractmethod
    def choose_largest(
        self, tensors: Mapping[str, Tensor], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Let the pieces of the largest magnitude live; return the dead places (bool) by tensor."""

    @abstractmethod
    def explore(
        self, rate: float, tensors: Mapping[str, Tensor], gradients: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Exchange a share `rate`; return, by tensor, which places changed hands (bool).

        `gradients` are summed ones of `watched`. Both the dead and the newborn places are named,
        also those of tensors that are not watched but belong to the pieces.
        """

    @abstractmethod
    def silence(self, tensors: Mapping[str, Tensor]) -> None:
        """Set the watched weights (or gradients, or averages) of dead pieces to exactly 0.

        Tensors that are not there are passed over.
        """

    @abstractmethod
    def counts(self) -> tuple[int, int]:
        """Return (living pieces, all pieces)."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Return who lives and who is newborn, as copies by a name that no other pool has."""

    @abstractmethod
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take up what `state` gave."""

    def clear(self, tensors: Mapping[str, Tensor]) -> None:  # noqa: B027 - most pools have no rest
        """Set what else belongs to dead pieces to 0, once training is over.

        Who is dead is read off `tensors`, which may be of an earlier moment than the pool.
        """

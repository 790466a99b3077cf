"""Single weights as pieces: the paper's granularity.

Weights compete within boxes only: a box holds what one submodel of the grid has more than the
next smaller one along each axis. So every submodel, the smallest too, keeps the same density,
although nested training gives early columns more energy (and magnitude would starve the rest).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import torch
from torch import Tensor

from training.sparse.exchange import exchange, keep_count, largest_choice, random_choice
from training.sparse.pool import Pool

Box = tuple[slice, ...]


class ElementPool(Pool):
    """The weights of one tensor, box by box; what stands in no box is left alone.

    `edges[axis]` are ascending ends of the boxes along each axis; the first box begins at
    `first[axis]`.
    """

    def __init__(
        self,
        name: str,
        tensor: Tensor,
        density: float,
        edges: Sequence[Sequence[int]],
        first: Sequence[int] | None = None,
    ) -> None:
        self.watched = (name,)
        self._name = name
        self._density = density
        begins = first if first is not None else [0] * tensor.dim()
        self._boxes: list[Box] = [
            tuple(slice(*ends) for ends in place)
            for place in product(
                *(
                    zip((begin, *along[:-1]), along, strict=True)
                    for begin, along in zip(begins, edges, strict=True)
                )
            )
        ]
        self._live = torch.ones(tensor.shape, dtype=torch.bool)
        self._fresh = torch.zeros(tensor.shape, dtype=torch.bool)

    def choose_randomly(self, tensors: Mapping[str, Tensor], generator: torch.Generator) -> None:
        """Let exactly round(density * size) random weights of each box live."""
        del tensors
        for box in self._boxes:
            view = self._live[box]
            size = view.numel()
            chosen = random_choice(size, keep_count(self._density, size), generator)
            view.copy_(chosen.view(view.shape))

    def choose_largest(
        self, tensors: Mapping[str, Tensor], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Let exactly round(density * size) weights of each box live, the largest ones."""
        del generator
        for box in self._boxes:
            view = self._live[box]
            scores = tensors[self._name][box].abs().flatten()
            chosen = largest_choice(scores, keep_count(self._density, view.numel()))
            view.copy_(chosen.view(view.shape))
        return {self._name: ~self._live}

    def explore(
        self, rate: float, tensors: Mapping[str, Tensor], gradients: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Exchange within each box; see `Pool`."""
        weights, sums = tensors[self._name], gradients[self._name]
        changed = torch.zeros_like(self._live)
        for box in self._boxes:
            live, fresh = self._live[box], self._fresh[box]
            died, born = exchange(
                live.flatten(),
                fresh.flatten(),
                weights[box].abs().flatten(),
                sums[box].abs().flatten(),
                rate,
            )
            died, born = died.view(live.shape), born.view(live.shape)
            live.logical_and_(~died).logical_or_(born)
            fresh.copy_(born)
            changed[box] = died | born
        return {self._name: changed}

    def silence(self, tensors: Mapping[str, Tensor]) -> None:
        """Zero the dead."""
        if self._name in tensors:
            tensors[self._name].masked_fill_(~self._live, 0.0)

    def counts(self) -> tuple[int, int]:
        """Return (living, all) weights of the boxes."""
        return (
            sum(int(self._live[box].sum()) for box in self._boxes),
            sum(self._live[box].numel() for box in self._boxes),
        )

    def state(self) -> dict[str, Tensor]:
        """Return the masks."""
        return {
            f"live.{self._name}": self._live.clone(),
            f"fresh.{self._name}": self._fresh.clone(),
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take up the masks."""
        self._live.copy_(state[f"live.{self._name}"])
        self._fresh.copy_(state[f"fresh.{self._name}"])

"""Feed-forward channels and attention heads as pieces.

A piece has weights that read (a channel's row of the first matrix, a head's query, key and value)
and weights that write (its column of the second matrix, of the output). When it dies, what it
writes becomes 0, so that it adds nothing, and what it reads is frozen: with both at 0 neither
would ever have a gradient again. `clear` zeroes the rest once training is over, and
`models.submodel` leaves such pieces out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from training.sparse.exchange import exchange, keep_count, largest_choice, random_choice
from training.sparse.pool import Pool


class ChannelPool(Pool):
    """The pieces along one axis of several tensors of one layer.

    `writes` is (name, axis): the tensor through which a piece acts. `reads` are the others, each
    with the axis along which the same pieces stand; `biases` of them are cleared, not counted in
    magnitudes. Pieces compete between two `edges` only: each edge is where a submodel ends.
    """

    def __init__(
        self,
        writes: tuple[str, int],
        reads: Sequence[tuple[str, int]],
        biases: Sequence[tuple[str, int]],
        density: float,
        edges: Sequence[int],
    ) -> None:
        self.watched = (writes[0],)
        self._writes, self._reads, self._biases = writes, tuple(reads), tuple(biases)
        self._parts = [slice(*ends) for ends in zip((0, *edges[:-1]), edges, strict=True)]
        self._density = density
        self._live_N = torch.ones(edges[-1], dtype=torch.bool)
        self._fresh_N = torch.zeros(edges[-1], dtype=torch.bool)

    def choose_randomly(self, tensors: Mapping[str, Tensor], generator: torch.Generator) -> None:
        """Let random pieces live; those that read nothing are given something to read."""
        for part in self._parts:
            size = part.stop - part.start
            self._live_N[part] = random_choice(size, keep_count(self._density, size), generator)
        self._wake(tensors, generator)

    def choose_largest(
        self, tensors: Mapping[str, Tensor], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Let the largest pieces live; those that read nothing are given something to read."""
        magnitude_N = self._magnitudes(tensors)
        for part in self._parts:
            size = part.stop - part.start
            self._live_N[part] = largest_choice(magnitude_N[part], keep_count(self._density, size))
        self._wake(tensors, generator)
        return self._places(~self._live_N, tensors)

    def explore(
        self, rate: float, tensors: Mapping[str, Tensor], gradients: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Exchange pieces within each part; see `Pool`."""
        name, axis = self._writes
        magnitude_N = self._magnitudes(tensors)
        gradient_N = _mean_abs(gradients[name], axis)
        changed_N = torch.zeros_like(self._live_N)
        for part in self._parts:
            died, born = exchange(
                self._live_N[part], self._fresh_N[part], magnitude_N[part], gradient_N[part], rate
            )
            self._live_N[part] = (self._live_N[part] & ~died) | born
            self._fresh_N[part] = born
            changed_N[part] = died | born
        return self._places(changed_N, tensors)

    def silence(self, tensors: Mapping[str, Tensor]) -> None:
        """Zero what the dead write."""
        name, axis = self._writes
        if name in tensors:
            tensors[name].masked_fill_(_along(~self._live_N, tensors[name], axis), 0.0)

    def clear(self, tensors: Mapping[str, Tensor]) -> None:
        """Zero what pieces read that write nothing."""
        name, axis = self._writes
        silent_N = _mean_abs(tensors[name], axis) == 0
        for name, axis in (*self._reads, *self._biases):
            tensors[name].masked_fill_(_along(silent_N, tensors[name], axis), 0.0)

    def counts(self) -> tuple[int, int]:
        """Return (living, all) pieces."""
        return int(self._live_N.sum()), len(self._live_N)

    def state(self) -> dict[str, Tensor]:
        """Return the masks."""
        name = self._writes[0]
        return {f"live.{name}": self._live_N.clone(), f"fresh.{name}": self._fresh_N.clone()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take up the masks."""
        name = self._writes[0]
        self._live_N.copy_(state[f"live.{name}"])
        self._fresh_N.copy_(state[f"fresh.{name}"])

    def _places(self, chosen_N: Tensor, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: _along(chosen_N, tensors[name], axis).expand_as(tensors[name])
            for name, axis in (self._writes, *self._reads, *self._biases)
        }

    def _magnitudes(self, tensors: Mapping[str, Tensor]) -> Tensor:
        # Mean per weight of each side: a piece is as large as what it reads and what it writes.
        sides = [_mean_abs(tensors[name], axis) for name, axis in (self._writes, *self._reads)]
        return torch.stack(sides).mean(0)

    def _wake(self, tensors: Mapping[str, Tensor], generator: torch.Generator) -> None:
        for name, axis in self._reads:
            tensor = tensors[name]
            asleep_N = _mean_abs(tensor, axis) == 0
            if not asleep_N.any():
                continue
            drawn = torch.randn(tensor.shape, generator=generator) * tensor.shape[-1] ** -0.5
            asleep = _along(asleep_N, tensor, axis).expand_as(tensor)
            tensor.copy_(torch.where(asleep, drawn, tensor))


def _mean_abs(tensor: Tensor, axis: int) -> Tensor:
    return tensor.abs().movedim(axis, 0).flatten(1).mean(1)


def _along(places_N: Tensor, tensor: Tensor, axis: int) -> Tensor:
    shape = [1] * tensor.dim()
    shape[axis] = len(places_N)
    return places_N.view(shape)

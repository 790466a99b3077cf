"""Blocks of the item table as pieces: rows of like popularity by neighbouring columns.

Within a block of rows the living columns are always the first ones, so that what lives is a
table of row blocks with a width each. A block of rows dies at its last living block of columns
and grows at the first dead one; blocks of rows compete. A smaller submodel, which reads the
first columns alone, is at least as dense as the whole: min(width, e) / e >= width / E.
"""

# V catalog rows with padding, E embedding width, G row blocks, C column blocks

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from training.sparse.exchange import keep_count
from training.sparse.pool import Pool


def row_edges(rows: int, row_blocks: int) -> list[int]:
    """Return where the row blocks of a table of `rows` begin and the last ends; row 0 in none."""
    groups = min(row_blocks, rows - 1)
    return [1 + (rows - 1) * place // groups for place in range(groups + 1)]


class BlockPool(Pool):
    """The blocks of one table (rows, columns); row 0 stands in none of them.

    Every row block keeps its first column block. Row blocks differ by at most one row, so the
    number of living blocks is exact and that of weights almost.
    """

    def __init__(
        self, name: str, tensor: Tensor, density: float, *, row_blocks: int, column_block: int
    ) -> None:
        self.watched = (name,)
        self._name = name
        rows, columns = tensor.shape
        if columns % column_block:
            raise ValueError(f"columns of {column_block} do not divide a table of {columns}")
        self._column_block = column_block
        self._most = columns // column_block
        self._edges = row_edges(rows, row_blocks)
        groups = len(self._edges) - 1
        self._budget = max(groups, keep_count(density, groups * self._most))
        self._width_G = torch.full((groups,), self._most)
        self._fresh_G = torch.zeros(groups, dtype=torch.bool)

    def choose_randomly(self, tensors: Mapping[str, Tensor], generator: torch.Generator) -> None:
        """Let random row blocks have the columns beyond the first."""
        del tensors
        groups = len(self._width_G)
        self._width_G.fill_(1)
        beyond = torch.arange(groups).repeat(self._most - 1)
        drawn = beyond[torch.randperm(len(beyond), generator=generator)]
        self._width_G += torch.bincount(drawn[: self._budget - groups], minlength=groups)

    def choose_largest(
        self, tensors: Mapping[str, Tensor], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Take the block of the smallest magnitude off some row block's end until enough are."""
        del generator
        magnitude_GC = self._means(tensors[self._name])
        self._width_G.fill_(self._most)
        for _ in range(int(self._width_G.sum()) - self._budget):
            ends_G = magnitude_GC.gather(1, (self._width_G - 1)[:, None]).squeeze(1)
            ends_G = ends_G.masked_fill(self._width_G == 1, torch.inf)
            self._width_G[int(ends_G.argmin())] -= 1
        dead = torch.zeros(tensors[self._name].shape, dtype=torch.bool)
        for rows, width in self._living():
            dead[rows, width:] = True
        return {self._name: dead}

    def explore(
        self, rate: float, tensors: Mapping[str, Tensor], gradients: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Exchange blocks between row blocks; see `Pool`.

        A row block loses or gains one block at most, and not the one it gained last time.
        """
        before_G = self._width_G.clone()
        magnitude_GC, gradient_GC = (
            self._means(values[self._name]) for values in (tensors, gradients)
        )
        ends_G = magnitude_GC.gather(1, (before_G - 1)[:, None]).squeeze(1)
        starts_G = gradient_GC.gather(1, before_G.clamp(max=self._most - 1)[:, None]).squeeze(1)
        losers = [
            place
            for place in torch.argsort(ends_G, stable=True).tolist()
            if before_G[place] > 1 and not self._fresh_G[place]
        ]
        winners = [
            place
            for place in torch.argsort(starts_G, descending=True, stable=True).tolist()
            if before_G[place] < self._most
        ]
        lost: set[int] = set()
        won: set[int] = set()
        for _ in range(math.ceil(rate * int(before_G.sum()))):
            loser = next((one for one in losers if one not in lost | won), None)
            winner = next((one for one in winners if one not in lost | won | {loser}), None)
            if loser is None or winner is None:
                break
            lost.add(loser)
            won.add(winner)
        self._fresh_G.zero_()
        for place in lost:
            self._width_G[place] -= 1
        for place in won:
            self._width_G[place] += 1
            self._fresh_G[place] = True
        changed = torch.zeros(tensors[self._name].shape, dtype=torch.bool)
        for place in lost | won:
            rows = slice(self._edges[place], self._edges[place + 1])
            low, high = sorted((int(before_G[place]), int(self._width_G[place])))
            changed[rows, low * self._column_block : high * self._column_block] = True
        return {self._name: changed}

    def silence(self, tensors: Mapping[str, Tensor]) -> None:
        """Zero the dead columns of every row block."""
        if self._name not in tensors:
            return
        for rows, width in self._living():
            tensors[self._name][rows, width:] = 0.0

    def counts(self) -> tuple[int, int]:
        """Return (living, all) blocks."""
        return int(self._width_G.sum()), len(self._width_G) * self._most

    def state(self) -> dict[str, Tensor]:
        """Return widths and newborns."""
        return {
            f"width.{self._name}": self._width_G.clone(),
            f"fresh.{self._name}": self._fresh_G.clone(),
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take up widths and newborns."""
        self._width_G.copy_(state[f"width.{self._name}"])
        self._fresh_G.copy_(state[f"fresh.{self._name}"])

    def _living(self) -> Iterator[tuple[slice, int]]:
        """Yield the rows of each block and how many of its columns live."""
        for place, width in enumerate(self._width_G.tolist()):
            rows = slice(self._edges[place], self._edges[place + 1])
            yield rows, width * self._column_block

    def _means(self, table_VE: Tensor) -> Tensor:
        """Return the (G, C) mean absolute value of every block."""
        rows = [
            table_VE[begin:end].abs().mean(0)
            for begin, end in zip(self._edges, self._edges[1:], strict=False)
        ]
        return torch.stack(rows).view(len(rows), self._most, self._column_block).mean(2)

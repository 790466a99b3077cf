"""What every search is given: per item group and width, the bytes it takes and what it is worth."""

# G item groups, W widths

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Pick a width for every group, within `budget` bytes.

    A choice is `choice_G` int64: the place of each group's width, 0 the narrowest. Groups stand by
    falling popularity.

    widths_W: int64 ascending. bytes_GW: int64 > 0, rising along W. value_GW: what a group at that
    width adds to the whole, never falling along W. traffic_G: each group's share of the
    interactions. fixed: bytes that every choice takes besides.

    ValueError for wrong shapes, bytes or values out of order, or a budget below `least`; the
    message of the last names the least feasible one.
    """

    budget: int
    widths_W: Ints
    bytes_GW: Ints
    value_GW: Floats
    traffic_G: Floats
    fixed: int = 0

    def __post_init__(self) -> None:
        groups, widths = self.bytes_GW.shape
        if self.value_GW.shape != (groups, widths) or self.traffic_G.shape != (groups,):
            raise ValueError(
                f"bytes are of shape {self.bytes_GW.shape}, values of {self.value_GW.shape}, "
                f"traffic of {self.traffic_G.shape}; they must fit"
            )
        if self.widths_W.shape != (widths,) or (np.diff(self.widths_W) <= 0).any():
            raise ValueError("widths must be ascending, one for every column of bytes")
        if (self.bytes_GW <= 0).any() or (np.diff(self.bytes_GW, axis=1) <= 0).any():
            raise ValueError("bytes must be positive and rise with the width")
        if not np.isfinite(self.value_GW).all() or (np.diff(self.value_GW, axis=1) < 0).any():
            raise ValueError("values must be finite and never fall with the width")
        if self.budget < self.least:
            raise ValueError(
                f"a budget of {self.budget:,} bytes cannot be met: with every group at width "
                f"{self.widths_W[0]} the tables take {self.least:,} bytes, the least that is "
                "feasible; raise the budget"
            )

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return len(self.bytes_GW)

    @property
    def least(self) -> int:
        """Bytes of the smallest choice."""
        return int(self.bytes_GW[:, 0].sum()) + self.fixed

    @property
    def most(self) -> int:
        """Bytes of the largest choice."""
        return int(self.bytes_GW[:, -1].sum()) + self.fixed

    def bytes_of(self, choice_G: Ints) -> int:
        """Return the bytes of a choice."""
        return int(self.bytes_GW[np.arange(self.groups), choice_G].sum()) + self.fixed

    def value_of(self, choice_G: Ints) -> float:
        """Return the value of a choice: the sum over its groups."""
        return float(self.value_GW[np.arange(self.groups), choice_G].sum())

    def fits(self, choice_G: Ints) -> bool:
        """Whether a choice is within the budget."""
        return self.bytes_of(choice_G) <= self.budget


def widen(problem: Problem, choice_G: Ints, order: Ints) -> Ints:
    """Return the choice with its groups widened a step at a time, in `order`, while they fit.

    Passes over the groups until none can be widened.
    """
    choice_G = choice_G.copy()
    left = problem.budget - problem.bytes_of(choice_G)
    last = problem.bytes_GW.shape[1] - 1
    grew = True
    while grew:
        grew = False
        for group in order:
            place = choice_G[group]
            if place == last:
                continue
            step = int(problem.bytes_GW[group, place + 1] - problem.bytes_GW[group, place])
            if step <= left:
                choice_G[group] += 1
                left -= step
                grew = True
    return choice_G

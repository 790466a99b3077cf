"""Floors without learning: popularity, item-after-item counts, counts within a window.

All are fitted on training sequences alone. Their scores are places in an order, not
probabilities: only comparisons within one user's row mean anything.
"""

# B users of a batch, V catalog rows

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.sequences import Sequences
from training.data.split import EvalCases
from training.data.transitions import count_transitions
from training.evaluate.metrics import rank_of_target
from training.evaluate.ragged import Ragged, flatten
from training.progress import Progress, Silent

# Scores of one batch: 8 MiB of float64 sums, which large caches hold (4 times faster than 64).
_CELLS = 1_000_000
_MOST_CELLS = 2**30


class Baseline(Protocol):
    """Anything that scores the whole catalog for histories."""

    num_items: int

    def scores(self, histories: Ragged) -> Tensor:
        """Return scores_BV float32, B x (num_items + 1); row 0, padding, is -inf."""


class Popularity:
    """Every user gets the items with the most training interactions; equal counts tie."""

    def __init__(self, training: Sequences, *, num_items: int) -> None:
        self.num_items = num_items
        self._levels = _popularity_levels(training, num_items)

    def scores(self, histories: Ragged) -> Tensor:
        """Return scores_BV float32, the same row for every history; row 0 is -inf."""
        scores_BV = np.repeat(
            self._levels[None].astype(np.float32), len(flatten(histories)[0]) - 1, axis=0
        )
        scores_BV[:, 0] = -np.inf
        return torch.from_numpy(scores_BV)


class Window:
    """Items that followed the user's last `steps` items in training, within `steps` steps.

    An item's evidence is the sum over the user's last `steps` items, the newest of age 1, of
    (its weight in that item's row of transition counts) / age; the weight of a pair seen at
    distance d is 1 / d. Evidence is compared as float32; equal evidence, also none, is ordered
    by training popularity; equal popularity ties.
    """

    def __init__(self, training: Sequences, *, num_items: int, steps: int = 5) -> None:
        self.num_items = num_items
        self.steps = steps
        self._counts = count_transitions(
            training.offsets, training.items, num_items=num_items, window=steps
        )
        self._levels = _popularity_levels(training, num_items)

    def scores(self, histories: Ragged) -> Tensor:
        """Return scores_BV float32; row 0 is -inf. Histories are oldest first and may be empty.

        ValueError when the result would have more than 2**30 cells.
        """
        offsets, values = flatten(histories)
        batch, rows = len(offsets) - 1, self.num_items + 1
        if batch * rows > _MOST_CELLS:
            raise ValueError(
                f"{batch} histories times {rows} rows are too many scores at once; "
                f"pass at most {_MOST_CELLS // rows} histories"
            )
        scores = np.tile(self._levels.astype(np.float32), batch)
        evidence = self._evidence(offsets, values)
        cells = np.flatnonzero(evidence)
        if len(cells):
            users, items = np.divmod(cells, rows)
            found, levels = evidence[cells].astype(np.float32), self._levels[items]
            # Positive floats compare like their 31 bits, so that one integer key orders by user,
            # then evidence, then popularity; the levels have at most as many bits as the rows.
            key = users << 31 | found.view(np.int32)
            order = np.argsort(key << int(levels.max()).bit_length() | levels)
            users, found, levels = users[order], found[order], levels[order]
            # Dense places above every popularity level: exact in float32, ties only where both tie.
            rises = np.zeros(len(order), dtype=np.int64)
            rises[1:] = (found[1:] != found[:-1]) | (levels[1:] != levels[:-1])
            places = np.cumsum(rises)
            first = np.searchsorted(users, np.arange(batch + 1))[users]
            scores[cells[order]] = self._levels.max() + 1 + places - places[first]
        scores_BV = scores.reshape(batch, rows)
        scores_BV[:, 0] = -np.inf
        return torch.from_numpy(scores_BV)

    def _evidence(
        self, offsets: NDArray[np.int64], values: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return (B * V,): each user's evidence for each row."""
        batch, rows = len(offsets) - 1, self.num_items + 1
        evidence = np.zeros(batch * rows)
        for age in range(1, self.steps + 1):
            users = np.flatnonzero(np.diff(offsets) >= age)
            sources = values[offsets[users + 1] - age]
            starts, stops = self._counts.offsets[sources], self._counts.offsets[sources + 1]
            lengths = stops - starts
            # Flat places of all successors: each source's span, one after the other.
            places = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
            places += np.arange(len(places))
            cells = np.repeat(users * rows, lengths) + self._counts.items[places]
            # One source per user, so no cell comes twice and plain indexing adds.
            evidence[cells] += self._counts.weights[places] / np.float64(age)
        return evidence


class Markov(Window):
    """Items that came right after the user's last item in training, most often first."""

    def __init__(self, training: Sequences, *, num_items: int) -> None:
        super().__init__(training, num_items=num_items, steps=1)


def baseline_ranks(
    baseline: Baseline,
    cases: EvalCases,
    *,
    exclude_seen: bool,
    progress: Progress | None = None,
) -> NDArray[np.float64]:
    """Return (cases,) float64: each target's rank, the history left out when `exclude_seen`.

    Users are scored a few at a time, so that memory stays flat whatever the catalog.
    """
    ranks = np.empty(len(cases))
    size = max(1, _CELLS // (baseline.num_items + 1))
    with (progress or Silent()).track("ranking a baseline", len(cases)) as advance:
        for start in range(0, len(cases), size):
            stop = min(start + size, len(cases))
            histories = _between(cases.histories, start, stop)
            ranks[start:stop] = rank_of_target(
                baseline.scores(histories),
                torch.from_numpy(cases.targets[start:stop]),
                histories if exclude_seen else None,
            ).numpy()
            advance(stop - start)
    return ranks


def _between(sequences: Sequences, start: int, stop: int) -> Sequences:
    offsets = sequences.offsets[start : stop + 1]
    return Sequences(offsets=offsets - offsets[0], items=sequences.items[offsets[0] : offsets[-1]])


def _popularity_levels(training: Sequences, num_items: int) -> NDArray[np.int64]:
    """Return (num_items + 1,) int64: 0 for the least count, one more for each higher count."""
    counts = np.bincount(training.items, minlength=num_items + 1)
    counts[0] = counts[1:].min()
    return np.unique(counts, return_inverse=True)[1].astype(np.int64)

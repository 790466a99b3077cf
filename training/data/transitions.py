"""Transition counts: how often one item followed another within a few steps.

The `window5` baseline and the supernet's transition memory are built from the same counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Pairs counted at a time: 64 MiB of keys, and about four times that while they are sorted.
_CHUNK_PAIRS = 8_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TransitionCounts:
    """A sparse square matrix over item rows 0..num_items; row 0, padding, is empty.

    Row `i` is `items[offsets[i]:offsets[i + 1]]`: the items seen after item `i`, by falling
    weight, ties by rising item. offsets: (num_items + 2,) int64. items: (nnz,) int32 in
    1..num_items. weights: (nnz,) float32, all positive: the sum over pairs of 1 / distance.
    """

    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    weights: NDArray[np.float32]

    @property
    def num_items(self) -> int:
        """Real items, without padding."""
        return len(self.offsets) - 2

    def row(self, item: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the successors of `item` and their weights, heaviest first, as views."""
        span = slice(self.offsets[item], self.offsets[item + 1])
        return self.items[span], self.weights[span]


def count_transitions(
    sequences_offsets: NDArray[np.integer],
    sequences_items: NDArray[np.integer],
    *,
    num_items: int,
    window: int,
    row_limit: int | None = None,
    users: NDArray[np.bool_] | None = None,
) -> TransitionCounts:
    """Return the counts of every pair at most `window` steps apart in one user's sequence.

    A pair (earlier, later) at distance d in 1..window adds 1 / d to the weight of `later` in the
    row of `earlier`; an item that follows itself counts like any other. The result depends on
    neither the order of the users nor the chunks in which the pairs were counted.

    Args:
        sequences_offsets: (users + 1,) integers; user `u` owns items [offsets[u], offsets[u + 1]).
        sequences_items: (n,) item rows in 1..num_items, oldest first within a user.
        num_items: real items in the catalog.
        window: the farthest distance counted, at least 1.
        row_limit: the most successors kept per item, the heaviest; None keeps all.
        users: (users,) bool, the users who count; None counts everyone.

    Raises:
        ValueError: an argument does not have the form above, or a key would overflow 64 bits.
    """
    _check(sequences_offsets, sequences_items, num_items, window, row_limit, users)
    lengths = np.diff(sequences_offsets)
    owner = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
    items = sequences_items
    if users is not None:
        chosen = users[owner]
        owner, items = owner[chosen], items[chosen]

    # Sorted runs of (distinct keys, counts), merged so that few and ever larger runs are held.
    runs: list[_Run] = []
    step = max(1, _CHUNK_PAIRS // window)
    for start in range(0, len(items), step):
        runs.append(_count_chunk(owner, items, start, start + step, num_items, window))
        while len(runs) > 1 and len(runs[-2][0]) <= 2 * len(runs[-1][0]):
            newest = runs.pop()
            runs.append(_merge(runs.pop(), newest))
    while len(runs) > 1:
        newest = runs.pop()
        runs.append(_merge(runs.pop(), newest))
    keys, counts = runs[0] if runs else (np.empty(0, np.int64), np.empty(0, np.int64))
    return _to_rows(keys, counts, num_items, window, row_limit)


_Run = tuple[NDArray[np.int64], NDArray[np.int64]]


def _count_chunk(
    owner: NDArray[np.int64],
    items: NDArray[np.integer],
    start: int,
    stop: int,
    num_items: int,
    window: int,
) -> _Run:
    """Count pairs whose earlier item stands in [start, stop), by key (earlier, later, distance).

    With the distance inside the key a plain sort groups everything: no argsort, no weights to
    carry along, and integer counts make the sums independent of the chunks.
    """
    parts = []
    for distance in range(1, window + 1):
        last = min(stop, len(items) - distance)
        if last <= start:
            break
        same = owner[start:last] == owner[start + distance : last + distance]
        earlier = items[start:last][same].astype(np.int64)
        later = items[start + distance : last + distance][same]
        parts.append((earlier * (num_items + 1) + later) * window + (distance - 1))
    keys = np.concatenate(parts) if parts else np.empty(0, np.int64)
    keys.sort()
    starts = _group_starts(keys)
    return keys[starts], np.diff(starts, append=len(keys))


def _merge(one: _Run, other: _Run) -> _Run:
    keys = np.concatenate((one[0], other[0]))
    counts = np.concatenate((one[1], other[1]))
    order = np.argsort(keys, kind="stable")  # linear: it finds the two sorted runs
    keys, counts = keys[order], counts[order]
    starts = _group_starts(keys)
    return keys[starts], np.add.reduceat(counts, starts) if len(starts) else counts


def _group_starts(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the positions at which a new value begins in sorted `keys`."""
    begins = np.ones(len(keys), dtype=np.bool_)
    np.not_equal(keys[1:], keys[:-1], out=begins[1:])
    return np.flatnonzero(begins)


def _to_rows(
    keys: NDArray[np.int64],
    counts: NDArray[np.int64],
    num_items: int,
    window: int,
    row_limit: int | None,
) -> TransitionCounts:
    pairs, distances = np.divmod(keys, window)
    starts = _group_starts(pairs)
    summed = np.zeros(0)
    if len(starts):
        summed = np.add.reduceat(counts / (distances + 1), starts)
    weights = summed.astype(np.float32)
    rows, successors = np.divmod(pairs[starts], num_items + 1)

    # Positive float32 compare like their bits, so row and falling weight fit one sort key;
    # pairs arrive by rising item and the sort is stable, which settles equal weights.
    falling = 0xFFFFFFFF - weights.view(np.uint32).astype(np.int64)
    order = np.argsort((rows << 32) | falling, kind="stable")
    rows, successors, weights = rows[order], successors[order], weights[order]

    lengths = np.bincount(rows, minlength=num_items + 1)
    if row_limit is not None:
        first = np.cumsum(lengths) - lengths
        kept = np.arange(len(rows)) - first[rows] < row_limit
        successors, weights = successors[kept], weights[kept]
        lengths = np.minimum(lengths, row_limit)
    offsets = np.zeros(num_items + 2, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return TransitionCounts(offsets=offsets, items=successors.astype(np.int32), weights=weights)


def _check(
    offsets: NDArray[np.integer],
    items: NDArray[np.integer],
    num_items: int,
    window: int,
    row_limit: int | None,
    users: NDArray[np.bool_] | None,
) -> None:
    for name, value in (("num_items", num_items), ("window", window), ("row_limit", row_limit)):
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    if num_items >= 2**31 - 1 or (num_items + 1) ** 2 * window >= 2**63:
        raise ValueError(
            f"num_items {num_items} with window {window} overflows the 64-bit keys of the counts; "
            "narrow the window or count over fewer items"
        )
    if offsets.ndim != 1 or items.ndim != 1 or len(offsets) < 1:
        raise ValueError(
            f"offsets and items have shapes {offsets.shape} and {items.shape}; "
            "give (users + 1,) and (n,)"
        )
    if offsets[0] != 0 or offsets[-1] != len(items) or np.any(np.diff(offsets) < 0):
        raise ValueError(f"offsets must rise from 0 to the number of items, {len(items)}")
    if len(items) and not (items.min() >= 1 and items.max() <= num_items):
        raise ValueError(
            f"items span {items.min()} to {items.max()}; rows must lie in 1..{num_items}"
        )
    if users is not None and (users.dtype != np.bool_ or users.shape != (len(offsets) - 1,)):
        raise ValueError(
            f"users is {users.dtype} of shape {users.shape}; give bool of ({len(offsets) - 1},)"
        )

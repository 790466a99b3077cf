"""How long histories are when they are computed: padded to few lengths, so that batches form."""

from __future__ import annotations

from functools import cache

from models.config import Submodel

LENGTH_BUCKETS = (8, 16, 32, 64, 128, 256, 512, 1024)
SHORT_READS = (1, 2, 4)
"""Below the least padded length: too few items to be worth a batch of their own, and still
enough for many a user."""


@cache
def padded_length(length: int, max_length: int) -> int:
    """Return the length a history of `length` items is padded to: the next bucket.

    ValueError when `length` lies outside 1..max_length.
    """
    if not 1 <= length <= max_length:
        raise ValueError(f"history length {length} is outside 1..{max_length}")
    return next((b for b in LENGTH_BUCKETS if length <= b < max_length), max_length)


def buckets(max_length: int) -> tuple[int, ...]:
    """Return every padded length that occurs, ascending; the last is `max_length`."""
    return (*(bucket for bucket in LENGTH_BUCKETS if bucket < max_length), max_length)


def reads_of(max_length: int) -> tuple[int, ...]:
    """Return what a submodel may read less than everything of histories of up to `max_length`.

    Few items, or a padded length: batches form, and costs need no measuring for every length.
    """
    return tuple(reads for reads in (*SHORT_READS, *LENGTH_BUCKETS) if reads < max_length)


def check_length(submodel: Submodel, max_length: int) -> None:
    """Raise ValueError unless the submodel reads everything, or a length of `reads_of`."""
    shorter = reads_of(max_length)
    if submodel.length and submodel.length not in shorter:
        raise ValueError(
            f"submodel {submodel.name} reads {submodel.length} items; of histories of up to "
            f"{max_length} it may read {', '.join(map(str, shorter)) or 'nothing less'}"
        )

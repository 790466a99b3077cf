"""The k best of a stream of rows, best kept in a heap whose worst entry stands on top."""

# H heap

from __future__ import annotations

import numba
import numpy as np


@numba.njit(nogil=True)
def worse(score, row, other_score, other_row):  # type: ignore[no-untyped-def]
    """Whether a row ranks behind another: by its score, of equal ones by the larger number."""
    return score < other_score or (score == other_score and row > other_row)


@numba.njit(nogil=True)
def offer(scores_H, rows_H, size, score, row):  # type: ignore[no-untyped-def]
    """Put a row into the heap if it belongs to the best; return the heap's new size."""
    if not np.isfinite(score):
        return size
    place = 0
    if size < len(scores_H):
        place = size
        size += 1
        while place > 0:
            parent = (place - 1) // 2
            if not worse(score, row, scores_H[parent], rows_H[parent]):
                break
            scores_H[place], rows_H[place] = scores_H[parent], rows_H[parent]
            place = parent
    elif not worse(scores_H[0], rows_H[0], score, row):
        return size
    else:
        place = sink(scores_H, rows_H, size, score, row)
    scores_H[place], rows_H[place] = score, row
    return size


@numba.njit(nogil=True)
def sink(scores_H, rows_H, size, score, row):  # type: ignore[no-untyped-def]
    """Return where a row belongs that replaces the top, its way there made free."""
    place = 0
    while True:
        child = 2 * place + 1
        if child >= size:
            return place
        if child + 1 < size and worse(
            scores_H[child + 1], rows_H[child + 1], scores_H[child], rows_H[child]
        ):
            child += 1
        if not worse(scores_H[child], rows_H[child], score, row):
            return place
        scores_H[place], rows_H[place] = scores_H[child], rows_H[child]
        place = child


@numba.njit(nogil=True)
def sort(scores_H, rows_H, size):  # type: ignore[no-untyped-def]
    """Order a heap's entries in place, best first."""
    for last in range(size - 1, 0, -1):
        score, row = scores_H[last], rows_H[last]
        scores_H[last], rows_H[last] = scores_H[0], rows_H[0]
        place = sink(scores_H, rows_H, last, score, row)
        scores_H[place], rows_H[place] = score, row

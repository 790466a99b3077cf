"""The best rows of a batch of score rows, exactly, all queries at once.

A score row of R * G columns is seen as G groups of R columns that lie G apart. The k-th largest
group maximum is no larger than the k-th largest score, so only groups whose maximum reaches it
can hold an answer: one pass over the scores, and a sort of a few dozen of them.
"""

# B batch, V catalog rows with padding, R members of a group, G groups, M groups that remain

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

_FEW = 16  # answers usually asked for; the group size is best for about so many


class ScoreBuffer:
    """Score rows that are reused from batch to batch; for one thread.

    Columns beyond the catalog's `rows` (padding's row included) hold -inf for ever.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._members = 2 ** max(0, round(math.log2(math.sqrt(rows / _FEW))))
        self._groups = -(-rows // self._members)
        self._scores_BV: Floats = np.empty((0, self._members * self._groups), dtype=np.float32)

    def take(self, batch: int) -> Floats:
        """Return `batch` contiguous rows, (B, R * G) float32; the last ones taken are given up."""
        if len(self._scores_BV) < batch:
            self._scores_BV = np.full((batch, self._members * self._groups), -np.inf, np.float32)
        return self._scores_BV[:batch]

    def best(self, scores_BV: Floats, ks: Sequence[int]) -> list[tuple[list[int], list[float]]]:
        """Return (rows, scores) of each row's k best scores above -inf, best first.

        `scores_BV` is what `take` returned. Of equal scores the smaller row wins; fewer than k
        where fewer are above -inf. FloatingPointError when a score is not a number.
        """
        batch = len(scores_BV)
        scores_BRG = scores_BV.reshape(batch, self._members, self._groups)
        largest_BG = scores_BRG.max(axis=1)
        place = self._groups - max(ks)
        if place > 0:
            least_B1 = np.partition(largest_BG, place, axis=1)[:, place, None]
        else:
            least_B1 = np.full((batch, 1), -np.inf, dtype=np.float32)
        if np.isnan(largest_BG.sum()) and np.isnan(largest_BG).any():
            raise FloatingPointError("a score is not a number")
        rows_M, groups_M = np.nonzero((largest_BG >= least_B1) & (largest_BG > -np.inf))
        found_MR = scores_BRG[rows_M, :, groups_M]
        kept_MR = (found_MR >= least_B1[rows_M]) & (found_MR > -np.inf)
        hits, members = np.nonzero(kept_MR)
        owners, scores = rows_M[hits], found_MR[kept_MR]
        columns = members * self._groups + groups_M[hits]
        order = np.lexsort((columns, -scores, owners))
        ends = np.cumsum(np.bincount(owners, minlength=batch)).tolist()
        sorted_columns, sorted_scores = columns[order].tolist(), scores[order].tolist()
        answers = []
        start = 0
        for k, end in zip(ks, ends, strict=True):
            stop = min(start + k, end)
            answers.append((sorted_columns[start:stop], sorted_scores[start:stop]))
            start = end
        return answers

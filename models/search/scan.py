"""The 4-bit scan of a batch: prepare the integers, run the kernel, order what it found."""

# V catalog rows with padding, E embedding width, P byte rows, Q queries

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.search import kernel
from models.search.contract import Found
from models.search.exact import Floats, Rows
from models.search.quantise import quantise
from models.search.queries import integers
from models.search.task import Task

_NO_MASKS: NDArray[np.bool_] = np.empty((0, 0), dtype=np.bool_)
_NO_INTEGERS = (np.empty((0, 0)), np.empty((0, 0, 2), dtype=np.int16), np.empty((0, 6)))


class Integers(NamedTuple):
    """A batch of queries in float64, with the kernel's `levels` and `terms`."""

    query_QE: NDArray[np.float64]
    levels_QP2: NDArray[np.int16]
    terms_Q6: NDArray[np.float64]
    covered_Q: NDArray[np.bool_]
    """Whether the scan's arithmetic holds for a query, by its width and its magnitude."""

    def only(self, places: Sequence[int]) -> Integers:
        """Return those queries, in this order."""
        return Integers(
            self.query_QE[places],
            self.levels_QP2[places],
            self.terms_Q6[places],
            self.covered_Q[places],
        )


class NibbleScan:
    """A quantised table and the scan over it; the float32 table is read, never copied."""

    def __init__(self, table_VE: Floats, bias_V: Floats, widths: Sequence[int]) -> None:
        self._table = table_VE
        self._bias = bias_V
        self._index = quantise(table_VE, bias_V, widths)
        self._norm_max = self._index.norm_WK.max(axis=1)
        self._bias_max = float(np.abs(bias_V).max())

    @property
    def num_bytes(self) -> int:
        """Resident bytes of the index."""
        return self._index.num_bytes

    def integers(self, query_QE: Floats) -> Integers:
        """Return the queries as the scan reads them."""
        queries, width = query_QE.shape
        if width not in self._index.widths:
            return Integers(*_NO_INTEGERS, np.zeros(queries, dtype=np.bool_))
        ready = Integers(
            query_QE.astype(np.float64),
            np.empty((queries, (width + 1) // 2 + 1, 2), dtype=np.int16),
            np.empty((queries, 6)),
            np.empty(queries, dtype=np.bool_),
        )
        norm_most = float(self._norm_max[self._index.widths.index(width)])
        scales_E = self._index.column_scale_E
        integers(
            ready.query_QE, scales_E, norm_most, self._bias_max, ready.levels_QP2, ready.terms_Q6,
            ready.covered_Q,
        )  # fmt: skip
        return ready

    def top(self, ready: Integers, tasks: Sequence[Task]) -> list[Found]:
        """Return the k best rows of each query; every query must be covered."""
        index = self._index
        queries, width = ready.query_QE.shape
        place = index.widths.index(width)
        k_Q = np.array([min(task.k, len(self._bias)) for task in tasks])
        scores = np.empty((queries, k_Q.max()), dtype=np.float32)
        rows = np.empty((queries, k_Q.max()), dtype=np.int64)
        counts = np.empty((queries, 3), dtype=np.int64)
        own_N, bounds_Q = _joined([task.rows for task in tasks])
        bonus_N = np.concatenate([task.bonus for task in tasks])
        kernel.check(
            self._table, self._bias, ready.query_QE, own_N, bonus_N, bounds_Q,
            scores, rows, k_Q, counts,
        )  # fmt: skip
        masks, mask_Q = _stacked([task.allowed_V for task in tasks])
        kernel.scan(
            index.codes_KPR, index.row_scale_V, index.scale_K, index.error_WK[place],
            index.length_WK[place], index.norm_WK[place], index.bias_K, self._table, self._bias,
            ready.query_QE, ready.levels_QP2, ready.terms_Q6, masks, mask_Q,
            *_joined([task.handled for task in tasks]), scores, rows, k_Q, counts,
        )  # fmt: skip
        return [
            Found(
                rows=best_rows[:size],
                scores=best_scores[:size],
                scanned=scanned,
                checked=checked,
                multiply_adds=width * (scanned + checked),
            )
            for best_rows, best_scores, (size, scanned, checked) in zip(
                rows.tolist(), scores.tolist(), counts.tolist(), strict=True
            )
        ]


def _joined(parts: Sequence[Rows]) -> tuple[Rows, Rows]:
    """Return the arrays one after another, and their bounds."""
    return np.concatenate(parts), np.array([0, *accumulate(map(len, parts))])


def _stacked(
    masks: Sequence[NDArray[np.bool_] | None],
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return (distinct masks stacked, the row of each query's mask or -1)."""
    distinct = {id(mask): mask for mask in masks if mask is not None}
    if not distinct:
        return _NO_MASKS, np.full(len(masks), -1)
    places = {key: place for place, key in enumerate(distinct)}
    stacked = (
        next(iter(distinct.values()))[None]
        if len(distinct) == 1
        else np.stack(list(distinct.values()))
    )
    return stacked, np.array([-1 if mask is None else places[id(mask)] for mask in masks])

"""The 4-bit scan of a batch: prepare the integers, run the kernel, order what it found."""

# V catalog rows with padding, E embedding width, P byte rows, Q queries

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.search import kernel
from models.search.contract import Found
from models.search.exact import Floats, best
from models.search.quantise import quantise
from models.search.task import Task

_MOST_LEVELS = 4095  # 8 * this is the largest sum that 16 bits hold
_LEAST_DELTA = 1e-30
_LARGEST = 1e30
_NO_MASKS: NDArray[np.bool_] = np.empty((0, 0), dtype=np.bool_)


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

    def covers(self, query_E: Floats) -> bool:
        """Say whether the scan's arithmetic holds for this query: its width and its magnitude."""
        index = self._index
        if len(query_E) not in index.widths:
            return False
        norm = float(np.linalg.norm(query_E.astype(np.float64)))
        reach = norm * float(self._norm_max[index.widths.index(len(query_E))]) + self._bias_max
        delta = self._delta(query_E.astype(np.float64) * index.column_scale_E[: len(query_E)])
        return reach < _LARGEST and _LEAST_DELTA <= delta < _LARGEST

    def top(self, query_QE: Floats, tasks: Sequence[Task]) -> list[Found]:
        """Return the k best rows of each query; every query must be one that `covers` accepts."""
        index = self._index
        queries, width = query_QE.shape
        place = index.widths.index(width)
        query = query_QE.astype(np.float64)
        k_Q = np.array([min(task.k, len(self._bias)) for task in tasks])
        scores = np.empty((queries, k_Q.max()), dtype=np.float32)
        rows = np.empty((queries, k_Q.max()), dtype=np.int64)
        counts = np.zeros((queries, 3), dtype=np.int64)
        terms = np.empty((queries, 6))
        levels = np.empty((queries, (width + 1) // 2 + 1, 2), dtype=np.int16)
        for q, (task, k) in enumerate(zip(tasks, k_Q, strict=True)):
            terms[q] = self._prepare(query[q], levels[q])
            counts[q, 0] = kernel.check(
                self._table, self._bias, query[q], task.rows, task.bonus,
                scores[q, :k], rows[q, :k], 0,
            )  # fmt: skip
            counts[q, 2] = len(task.rows)
        masks, mask_Q = _stacked([task.allowed_V for task in tasks])
        kernel.scan(
            index.codes_KPR, index.row_scale_V, index.scale_K, index.error_WK[place],
            index.length_WK[place], index.norm_WK[place], index.bias_K, self._table, self._bias,
            query, levels, terms, masks, mask_Q,
            np.concatenate([task.handled for task in tasks]),
            np.cumsum([0, *(len(task.handled) for task in tasks)]),
            scores, rows, k_Q, counts,
        )  # fmt: skip
        answers = []
        for q, (size, scanned, checked) in enumerate(counts.tolist()):
            best_rows, best_scores = best(scores[q, :size], rows[q, :size], size)
            answers.append(
                Found(
                    rows=best_rows,
                    scores=best_scores,
                    scanned=scanned,
                    checked=checked,
                    multiply_adds=width * (scanned + checked),
                )
            )
        return answers

    def _prepare(self, query_E: NDArray[np.float64], levels_P2: NDArray[np.int16]) -> list[float]:
        """Write the query's integers as the kernel reads them; return its terms."""
        width = len(query_E)
        scaled = query_E * self._index.column_scale_E[:width]
        delta = self._delta(scaled)
        whole = np.zeros(width + width % 2)
        whole[:width] = np.rint(scaled / delta)
        rest = scaled / delta - whole[:width]
        # A byte is low + 16 * high. low * k0 + high * k1 = byte * k0 + high * (k1 - 16 * k0), and
        # arithmetic modulo 2^16 forgives what does not fit.
        pairs = whole.astype(np.int64).reshape(-1, 2)
        levels_P2[:-1, 0] = pairs[:, 0]
        levels_P2[:-1, 1] = (pairs[:, 1] - 16 * pairs[:, 0]).astype(np.int16)
        levels_P2[-1] = -8 * pairs.sum()
        return [
            delta,
            float(np.linalg.norm(query_E)),
            delta * float(np.linalg.norm(rest)),
            delta * float(np.linalg.norm(whole)),
            0.5 * float(whole.sum()),
            kernel.SLACK * self._bias_max + 1e-40,
        ]

    @staticmethod
    def _delta(scaled_E: NDArray[np.float64]) -> float:
        total = float(np.abs(scaled_E).sum())
        return total / (_MOST_LEVELS - len(scaled_E) / 2) if total else 1.0


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

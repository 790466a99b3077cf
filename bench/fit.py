"""Least squares with no negative coefficient, and how far off a fit is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Relative errors |predicted / measured - 1|."""

    median: float
    worst: float


def fit(features: Sequence[Sequence[float]], measured: Sequence[float]) -> list[float]:
    """Return the coefficients that minimise the squared relative error, none of them negative.

    All subsets of the columns are tried, so the result is exact; meant for a handful of columns.
    ValueError when there are fewer points than columns or a measurement is not above 0.
    """
    rows = np.asarray(features, dtype=np.float64)
    values = np.asarray(measured, dtype=np.float64)
    points, columns = rows.shape
    if points < columns:
        raise ValueError(f"{points} points cannot fit {columns} coefficients")
    if (values <= 0).any():
        raise ValueError("every measurement must be above 0")
    relative = rows / values[:, None]
    # Columns of very different size (1 and 1e9) would lose digits.
    size = np.abs(relative).max(axis=0)
    size[size == 0] = 1.0
    scaled = relative / size
    best = np.zeros(columns)
    least = float(points)
    for many in range(1, columns + 1):
        for chosen in combinations(range(columns), many):
            found, *_ = np.linalg.lstsq(scaled[:, chosen], np.ones(points), rcond=None)
            if (found < 0).any():
                continue
            residual = float(((scaled[:, chosen] @ found - 1) ** 2).sum())
            if residual < least:
                least, best = residual, np.zeros(columns)
                best[list(chosen)] = found
    coefficients: list[float] = (best / size).tolist()
    return coefficients


def errors(predicted: Sequence[float], measured: Sequence[float]) -> Errors:
    """Return how far the predictions are off."""
    off: NDArray[np.float64] = np.abs(np.asarray(predicted) / np.asarray(measured) - 1)
    return Errors(median=float(np.median(off)), worst=float(off.max()))

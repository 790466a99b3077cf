"""Paired bootstrap over users: how sure a difference of two mean metrics is.

Users are drawn with replacement, and both systems are read on the same draw, so that hard users
count for both. A metric cut at k takes few distinct values; drawing how often each distinct
pair of values occurs (one multinomial draw) is the same distribution as drawing users one by
one, and costs by the number of distinct pairs instead of users.
"""

# R resamples, N distinct values

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Counts drawn at once: 64 MiB.
_CELLS = 8_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean over users with its percentile interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Mean of `a` minus mean of `b` over the same users.

    low, high: percentile interval of the difference. p: two-sided, twice the smaller share of
    resamples on either side of zero (zero itself counts on both; one more on each side, so
    never 0). relative, relative_low, relative_high: the same as a share of the mean of `b`
    in the same resample; None where that mean is not positive.
    """

    difference: float
    low: float
    high: float
    p: float
    relative: float | None
    relative_low: float | None
    relative_high: float | None


def compare(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    *,
    samples: int = 2000,
    seed: int,
    confidence: float = 0.95,
) -> Comparison:
    """Return how `a` differs from `b`, two metrics of the same users in the same order.

    Args:
        a: (users,) finite.
        b: (users,) finite.
        samples: resamples drawn.
        seed: equal seeds give equal results.
        confidence: share of the resamples inside the interval.

    Raises:
        ValueError: shapes differ, there are no users, or a value is out of range.
    """
    if a.shape != b.shape:
        raise ValueError(f"a and b have shapes {a.shape} and {b.shape}; pairs need equal ones")
    means_2R = _resampled_means(np.stack((a, b)), samples, seed, confidence)
    differences = means_2R[0] - means_2R[1]
    # Sums in another order differ in the last bits; a tie must not become a side.
    differences[np.abs(differences) < 1e-12 * (1 + np.abs(means_2R[1]))] = 0.0
    low, high = _percentiles(differences, confidence)
    least = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    difference, base = float((a - b).mean()), float(b.mean())
    relative = relative_low = relative_high = None
    if base > 0:
        relative = difference / base
        if (means_2R[1] > 0).all():
            relative_low, relative_high = _percentiles(differences / means_2R[1], confidence)
    return Comparison(
        difference=difference,
        low=low,
        high=high,
        p=min(1.0, 2 * (least + 1) / (samples + 1)),
        relative=relative,
        relative_low=relative_low,
        relative_high=relative_high,
    )


def interval(
    values: NDArray[np.float64], *, samples: int = 2000, seed: int, confidence: float = 0.95
) -> Interval:
    """Return the mean of per-user `values` (users,) with its interval; arguments as `compare`."""
    means_1R = _resampled_means(values[None], samples, seed, confidence)
    low, high = _percentiles(means_1R[0], confidence)
    return Interval(mean=float(values.mean()), low=low, high=high)


def _resampled_means(
    values: NDArray[np.float64], samples: int, seed: int, confidence: float
) -> NDArray[np.float64]:
    """Return (systems, R): the means of (systems, users) `values` over drawn users."""
    if values.ndim != 2 or values.shape[1] == 0:
        raise ValueError(f"metrics have shape {values.shape[1:]}; give (users,), at least one")
    if not np.isfinite(values).all():
        raise ValueError("metrics hold NaN or infinity; give one finite number per user")
    if samples < 1:
        raise ValueError(f"samples is {samples}; it must be at least 1")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must lie between 0 and 1")
    users = values.shape[1]
    distinct, counts = np.unique(values, axis=1, return_counts=True)
    generator = np.random.default_rng(seed)
    step = max(1, _CELLS // len(counts))
    parts = [
        generator.multinomial(users, counts / users, size=min(step, samples - start)) @ distinct.T
        for start in range(0, samples, step)
    ]
    means: NDArray[np.float64] = np.concatenate(parts).T / users
    return means


def _percentiles(values: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, (tail, 1 - tail))
    return float(low), float(high)

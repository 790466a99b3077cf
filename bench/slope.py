"""Whether something rises: the Theil-Sen slope with its confidence interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Of the standard normal distribution, for 95 %.
_Z = 1.959964
_BLOCKS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """The median slope and its 95 % interval, in units of y per unit of x."""

    value: float
    low: float
    high: float

    @property
    def is_flat(self) -> bool:
        """Whether the interval holds zero: nothing that was seen tells the slope from it."""
        return self.low <= 0.0 <= self.high


def theil_sen(x: Sequence[float], y: Sequence[float], *, blocks: int = _BLOCKS) -> Slope:
    """Return the median of the slopes between all pairs of points, with Sen's interval of 95 %.

    Neighbouring samples of a process resemble each other, and an interval that took them for
    independent would be too narrow: more than `blocks` points are first made into that many, the
    medians of equally long stretches. ValueError with fewer than 3 points, or where all x are one.
    """
    if len(x) < 3 or len(x) != len(y):
        raise ValueError(f"{len(x)} and {len(y)} points; give at least 3 of each")
    parts = np.array_split(np.arange(len(x)), min(blocks, len(x)))
    across = np.array([np.median(np.asarray(x, dtype=np.float64)[part]) for part in parts])
    up = np.array([np.median(np.asarray(y, dtype=np.float64)[part]) for part in parts])
    first, second = np.triu_indices(len(across), k=1)
    apart = across[second] - across[first]
    if not apart.any():
        raise ValueError("all points have the same x")
    slopes = np.sort((up[second] - up[first])[apart != 0] / apart[apart != 0])
    count, pairs = len(across), len(slopes)
    # The variance of Kendall's score, whose quantiles bound the slope (Sen, 1968).
    reach = _Z * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    low = max(0, math.floor((pairs - reach) / 2))
    high = min(pairs - 1, math.ceil((pairs + reach) / 2))
    return Slope(value=float(np.median(slopes)), low=float(slopes[low]), high=float(slopes[high]))

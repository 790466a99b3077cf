"""When requests are due, decided before the first is sent."""

from __future__ import annotations

import numpy as np

from bench.client.job import Arrivals


def due_times(rate: float, seconds: float, arrivals: Arrivals, seed: int) -> list[float]:
    """Return the due times in seconds from the start, ascending, all before `seconds`.

    `constant`: one every 1 / rate, the first at 0. `poisson`: independent gaps of that mean.
    """
    if arrivals == "constant":
        count = max(1, int(np.ceil(rate * seconds - 1e-9)))
        return [place / rate for place in range(count)]
    rng = np.random.default_rng(seed)
    expected = rate * seconds
    gaps = rng.exponential(1 / rate, int(expected + 6 * np.sqrt(expected) + 10))
    times = np.cumsum(gaps)
    found: list[float] = times[times < seconds].tolist()
    return found or [0.0]

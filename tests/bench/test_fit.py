"""The fit behind `canet plan`."""

from __future__ import annotations

import numpy as np
import pytest

from bench.fit import errors, fit

TRUTH = (1e-3, 2e-4, 5e-11, 3e-10)


def points(count: int) -> list[tuple[float, ...]]:
    rng = np.random.default_rng(0)
    return [
        (1.0, float(rng.integers(1, 9)), float(rng.uniform(1e6, 1e8)), float(rng.uniform(1e5, 3e8)))
        for _ in range(count)
    ]


def test_exact_measurements_give_the_coefficients_back() -> None:
    rows = points(12)
    found = fit(rows, [float(np.dot(row, TRUTH)) for row in rows])
    assert found == pytest.approx(TRUTH, rel=1e-6)


def test_noise_leaves_small_errors_on_points_that_were_not_fitted() -> None:
    rng = np.random.default_rng(1)
    rows = points(60)
    measured = [float(np.dot(row, TRUTH) * rng.uniform(0.95, 1.05)) for row in rows]
    found = fit(rows[:40], measured[:40])
    off = errors([float(np.dot(row, found)) for row in rows[40:]], measured[40:])
    assert off.median < 0.05
    assert off.worst < 0.1


def test_no_coefficient_is_negative() -> None:
    rows = points(20)
    # More layers, less time: nonsense that noise can produce.
    measured = [1e-3 + 1e-3 / row[1] for row in rows]
    found = fit(rows, measured)
    assert min(found) >= 0
    assert found[1] == 0


def test_the_relative_error_counts_not_the_absolute_one() -> None:
    rows = [(1.0, 0.0), (1.0, 0.0), (1.0, 1e6)]
    (constant, slope) = fit(rows, [0.001, 0.001, 10.0])
    assert constant == pytest.approx(0.001)
    assert slope == pytest.approx(9.999e-6)


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(ValueError, match="3 points cannot fit 4"):
        fit(points(3), [1.0] * 3)
    with pytest.raises(ValueError, match="above 0"):
        fit(points(4), [1.0, 1.0, 0.0, 1.0])

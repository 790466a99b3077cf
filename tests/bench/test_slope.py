"""Against slopes that are known, and against chance."""

from __future__ import annotations

import numpy as np
import pytest

from bench.slope import theil_sen


def test_a_line_has_its_slope_and_no_width() -> None:
    slope = theil_sen(range(20), [3 + 0.5 * x for x in range(20)])
    assert [slope.value, slope.low, slope.high] == pytest.approx([0.5, 0.5, 0.5])
    assert not slope.is_flat


def test_what_never_changes_is_flat() -> None:
    slope = theil_sen(range(10), [7.0] * 10)
    assert (slope.value, slope.low, slope.high) == (0.0, 0.0, 0.0)
    assert slope.is_flat


def test_noise_is_flat_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    flat = [theil_sen(range(40), list(rng.normal(size=40))).is_flat for _ in range(300)]
    assert 0.9 < np.mean(flat) < 0.99


def test_a_small_rise_under_noise_and_outliers_is_found() -> None:
    rng = np.random.default_rng(4)
    x = np.arange(1000.0)
    y = 0.01 * x + rng.normal(size=1000)
    y[::50] += 500
    slope = theil_sen(list(x), list(y))
    assert slope.low < 0.01 < slope.high
    assert not slope.is_flat


@pytest.mark.parametrize(
    ("x", "y"), [([1, 2], [1, 2]), ([1, 2, 3], [1, 2]), ([1, 1, 1], [1, 2, 3])]
)
def test_too_little_to_tell_is_refused(x: list[float], y: list[float]) -> None:
    with pytest.raises(ValueError, match="points"):
        theil_sen(x, y)

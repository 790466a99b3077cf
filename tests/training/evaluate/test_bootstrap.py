"""Paired bootstrap: cases with known answers."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluate import bootstrap
from training.evaluate.bootstrap import compare, interval


def test_equal_metrics_do_not_differ() -> None:
    values = np.random.default_rng(1).random(200)
    found = compare(values, values.copy(), seed=0)
    assert (found.difference, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)
    assert (found.relative, found.relative_low, found.relative_high) == (0.0, 0.0, 0.0)


def test_a_constant_gain_is_certain() -> None:
    b = np.random.default_rng(1).random(200)
    found = compare(b + 0.5, b, samples=999, seed=0)
    assert (found.difference, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
    assert found.p == pytest.approx(2 / 1000)


def test_a_constant_share_is_a_certain_relative_gain() -> None:
    b = np.random.default_rng(1).random(200)
    found = compare(1.1 * b, b, seed=0)
    assert found.relative == pytest.approx(0.1)
    assert found.relative_low == pytest.approx(0.1)
    assert found.relative_high == pytest.approx(0.1)


def test_the_interval_of_a_coin_is_the_binomial_one() -> None:
    """400 users, 100 hits: mean 0.25, standard error sqrt(0.25 * 0.75 / 400) = 0.02165."""
    found = interval(np.repeat([1.0, 0.0], [100, 300]), samples=20_000, seed=0)
    assert found.mean == 0.25
    assert found.low == pytest.approx(0.25 - 1.96 * 0.02165, abs=0.003)
    assert found.high == pytest.approx(0.25 + 1.96 * 0.02165, abs=0.003)


def test_pairing_counts_only_what_differs() -> None:
    """Wildly different users, the same small gain with small noise: a narrow interval."""
    generator = np.random.default_rng(1)
    b = generator.random(500) * 100
    noise = generator.normal(0, 0.1, 500)
    found = compare(b + 0.05 + noise, b, seed=0)
    half = 1.96 * noise.std() / np.sqrt(500)
    middle = 0.05 + noise.mean()
    assert found.low == pytest.approx(middle - half, abs=0.002)
    assert found.high == pytest.approx(middle + half, abs=0.002)


def test_swapping_mirrors_the_difference() -> None:
    generator = np.random.default_rng(1)
    a, b = generator.integers(0, 3, (2, 300)) / 2
    one, other = compare(a, b, seed=0), compare(b, a, seed=0)
    assert one.difference == -other.difference
    assert one.low == pytest.approx(-other.high, abs=0.02)
    assert one.p == pytest.approx(other.p, abs=0.1)


def test_chance_is_found_as_often_as_it_should_be() -> None:
    """Under no difference p stays above 0.1 in about nine of ten trials."""
    generator = np.random.default_rng(3)
    found = [
        compare(*generator.integers(0, 2, (2, 100)).astype(float), samples=400, seed=trial).p
        for trial in range(200)
    ]
    assert 0.82 < np.mean(np.array(found) > 0.1) < 0.98


def test_a_seed_settles_the_result_and_chunks_do_not_change_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a, b = np.random.default_rng(1).random((2, 50))
    found = compare(a, b, seed=7)
    assert found == compare(a, b, seed=7)
    assert found != compare(a, b, seed=8)
    monkeypatch.setattr(bootstrap, "_CELLS", 120)
    assert compare(a, b, seed=7).low == pytest.approx(found.low, abs=1e-12)


def test_a_base_of_zero_has_no_relative_difference() -> None:
    found = compare(np.ones(3), np.zeros(3), seed=0)
    assert found.difference == 1.0
    assert (found.relative, found.relative_low, found.relative_high) == (None, None, None)
    # Resamples without the one hit exist, so the share has no interval, only a value.
    found = compare(np.array([1.0, 1.0]), np.array([1.0, 0.0]), seed=0)
    assert found.relative == 1.0
    assert found.relative_low is None


def test_wrong_arguments_are_named() -> None:
    one = np.ones(1)
    with pytest.raises(ValueError, match=r"shapes \(1,\) and \(2,\)"):
        compare(one, np.ones(2), seed=0)
    with pytest.raises(ValueError, match="at least one"):
        interval(np.ones(0), seed=0)
    with pytest.raises(ValueError, match="NaN or infinity"):
        interval(np.array([np.nan]), seed=0)
    with pytest.raises(ValueError, match="samples is 0"):
        interval(one, samples=0, seed=0)
    with pytest.raises(ValueError, match="confidence is 95"):
        interval(one, confidence=95, seed=0)

"""Budgets are met closely, impossible ones refused, and prices buy what the curve says."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from training.evaluate.routing_baselines import choose
from training.publish.frontier import Asked, FrontierPoint, Held, price_for_quality


def held(users: int = 5000) -> Held:
    rng = np.random.default_rng(0)
    full_U = rng.uniform(0.5, 1.0, users) * 1e6
    cost_US = full_U[:, None] * np.array([0.1, 0.3, 0.6, 1.0]) + 1000.0
    quality_US = rng.uniform(0.2, 0.4, (users, 4)) + np.array([0.0, 0.02, 0.04, 0.05])
    ndcg_US = (rng.random((users, 4)) < quality_US).astype(np.float64)
    return Held(quality_US=quality_US, ndcg_US=ndcg_US, cost_US=cost_US, full_U=full_U, unit=1e6)


@pytest.mark.parametrize("budget", [0.15, 0.25, 0.35, 0.5])
def test_budget_is_met_closely_and_never_exceeded(budget: float) -> None:
    sample = held()
    price = sample.price_for_budget(budget)
    (point,) = sample.frontier(np.array([price]))
    assert 0.98 * budget <= point.flops_ratio <= budget * (1 + 1e-9)


@pytest.mark.parametrize("budget", [0.15, 0.25, 0.35, 0.5])
def test_a_budget_is_met_on_what_is_asked_where_that_is_longer(budget: float) -> None:
    sample, other = held(), held(4000)
    longer = Asked(quality_NS=other.quality_US, cost_NS=other.cost_US, full_N=other.full_U * 1.1)
    sample = replace(sample, asked=longer)
    price = sample.price_for_budget(budget)
    (point,) = sample.frontier(np.array([price]))
    chosen_N = choose(other.quality_US, other.cost_US / 1e6, price)
    spent = other.cost_US[np.arange(4000), chosen_N].mean() / longer.full_N.mean()
    assert point.flops_ratio == pytest.approx(spent)
    assert 0.98 * budget <= spent <= budget * (1 + 1e-9)
    chosen_U = choose(sample.quality_US, sample.cost_US / 1e6, price)
    assert point.ndcg_10 == pytest.approx(sample.ndcg_US[np.arange(5000), chosen_U].mean())


def test_at_the_highest_price_everybody_gets_the_cheapest_asked_or_not() -> None:
    sample = held()
    sure = sample.quality_US * 3
    asked = Asked(quality_NS=sure, cost_NS=sample.cost_US, full_N=sample.full_U)
    for one in (replace(sample, asked=asked), replace(sample, quality_US=sure)):
        price = one.highest_price()
        assert (choose(sure, sample.cost_US / 1e6, price) == 0).all()
        assert (choose(sure, sample.cost_US / 1e6, price * 0.99) != 0).any()
        assert one.prices()[-1] == price


def test_ample_budget_costs_no_price() -> None:
    assert held().price_for_budget(2.0) == 0.0


def test_impossible_budget_is_refused_and_the_least_named() -> None:
    with pytest.raises(ValueError, match=r"0\.05 .* cheapest submodels cost 0\.10\d+; raise"):
        held().price_for_budget(0.05)


def test_curve_never_rises_in_cost_and_starts_at_the_best_prediction() -> None:
    sample = held(500)
    points = sample.frontier()
    assert points[0].price == 0.0
    best_U = sample.quality_US.argmax(1)
    assert points[0].ndcg_10 == pytest.approx(sample.ndcg_US[np.arange(500), best_U].mean())
    assert all(one.flops_ratio >= other.flops_ratio for one, other in pairwise(points))


def test_cheapest_point_that_is_good_enough_wins_else_the_best() -> None:
    points = [
        FrontierPoint(price=0.0, flops_ratio=0.9, ndcg_10=0.30),
        FrontierPoint(price=0.1, flops_ratio=0.5, ndcg_10=0.29),
        FrontierPoint(price=0.2, flops_ratio=0.2, ndcg_10=0.20),
    ]
    assert price_for_quality(points, 0.30, tolerance=0.05) == 0.1
    assert price_for_quality(points, 0.30, tolerance=0.5) == 0.2
    assert price_for_quality(points, 0.9, tolerance=0.1) == 0.0


def test_a_loss_within_one_standard_error_is_none() -> None:
    points = [
        FrontierPoint(price=0.0, flops_ratio=0.9, ndcg_10=0.30, error=0.0),
        FrontierPoint(price=0.1, flops_ratio=0.2, ndcg_10=0.29, error=0.02),
        FrontierPoint(price=0.2, flops_ratio=0.1, ndcg_10=0.25, error=0.02),
    ]
    assert price_for_quality(points, 0.30, tolerance=0.005) == 0.1


def test_the_error_is_that_of_the_paired_difference_to_full() -> None:
    sample = held(400)
    first, *_, last = sample.frontier()
    cheapest_U = sample.ndcg_US[:, 0] - sample.ndcg_US[:, -1]
    assert last.error == pytest.approx(cheapest_U.std() / 20)
    assert first.error > 0

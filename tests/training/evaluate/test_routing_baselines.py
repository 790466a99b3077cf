"""Routing baselines: worked by hand, held to brute force and to the promised monotony."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.evaluate.routing_baselines import (
    best_static,
    choose,
    oracle,
    oracle_at_cost,
    price_for_budget,
    price_frontier,
    random_routing,
    routed,
)

# Two easy users whom the small submodel serves as well, one hard user it fails.
QUALITY = np.array([[1.0, 1.0, 1.0], [0.5, 0.5, 0.25], [0.0, 0.5, 1.0]])
COSTS = np.array([1.0, 2.0, 4.0])


def test_routed_reads_the_chosen_cells() -> None:
    found = routed(QUALITY, COSTS, np.array([0, 0, 2]))
    assert found.quality.tolist() == [1.0, 0.5, 1.0]
    assert found.cost == 2.0


def test_random_routing_deals_the_same_mix_blindly() -> None:
    found = random_routing(QUALITY, COSTS, np.array([0, 0, 2]))
    assert found.quality == pytest.approx([1.0, (0.5 + 0.5 + 0.25) / 3, 1 / 3])
    assert found.cost == pytest.approx(2.0)


def test_random_routing_is_the_mean_over_all_shuffles() -> None:
    generator = np.random.default_rng(0)
    quality, costs = generator.random((5, 3)), generator.random((5, 3))
    choice = np.array([0, 1, 1, 2, 0])
    shuffles = [routed(quality, costs, choice[list(p)]) for p in itertools.permutations(range(5))]
    found = random_routing(quality, costs, choice)
    assert found.quality == pytest.approx(np.mean([one.quality for one in shuffles], axis=0))
    assert found.cost == pytest.approx(np.mean([one.cost for one in shuffles]))


def test_the_best_static_submodel_fits_the_budget() -> None:
    # Means are 0.5, 0.667, 0.75.
    assert [best_static(QUALITY, COSTS, budget=b) for b in (1.0, 1.9, 2.0, 3.9, 4.0)] == [
        0,
        0,
        1,
        1,
        2,
    ]
    with pytest.raises(ValueError, match=r"budget 0\.5 is below the cheapest .* cost 1"):
        best_static(QUALITY, COSTS, budget=0.5)


def test_ties_go_to_the_cheaper_then_to_the_first() -> None:
    assert best_static(np.ones((2, 3)), np.array([2.0, 1.0, 1.0]), budget=9.0) == 1
    assert choose(np.ones((1, 3)), np.array([2.0, 1.0, 1.0]), 0.0).tolist() == [1]
    assert choose(QUALITY, COSTS, 0.0).tolist() == [0, 0, 2]


def test_the_oracle_takes_each_users_best() -> None:
    assert oracle(QUALITY, COSTS).tolist() == [0, 0, 2]
    found = oracle_at_cost(QUALITY, COSTS, budget=2.0)
    assert found.choice.tolist() == [0, 0, 2]
    assert found.bound == pytest.approx(QUALITY.max(axis=1).mean())


def test_a_price_moves_users_to_cheaper_submodels_where_it_exceeds_their_gain() -> None:
    # The hard user gains 1/4 per unit from submodel 1 to 2, and 1/2 from 0 to 1.
    chosen = [choose(QUALITY, COSTS, price)[2] for price in (0.2, 0.25, 0.3, 0.5, 0.6)]
    assert chosen == [2, 1, 1, 0, 0]
    points = price_frontier(QUALITY, QUALITY, COSTS, np.array([0.0, 0.3, 1.0]))
    assert [point.cost for point in points] == pytest.approx([2.0, 4 / 3, 1.0])
    assert [point.quality for point in points] == pytest.approx([2.5 / 3, 2 / 3, 0.5])


def test_the_price_for_a_budget_is_the_least_that_meets_it() -> None:
    assert price_for_budget(QUALITY, COSTS, budget=2.0) == 0.0
    assert price_for_budget(QUALITY, COSTS, budget=1.9) == pytest.approx(0.25)
    assert price_for_budget(QUALITY, COSTS, budget=1.0) == pytest.approx(0.5)
    with pytest.raises(ValueError, match=r"budget 0\.9 is below the least mean cost 1"):
        price_for_budget(QUALITY, COSTS, budget=0.9)


# Exact in floating point, so that monotony can be asked for without tolerance.
_DYADIC = st.integers(0, 64).map(lambda value: value / 64)


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    users, submodels = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    row = st.lists(_DYADIC, min_size=submodels, max_size=submodels)
    quality = np.array(draw(st.lists(row, min_size=users, max_size=users)))
    if draw(st.booleans()):
        return quality, np.array(draw(row))
    return quality, np.array(draw(st.lists(row, min_size=users, max_size=users)))


@given(problem=problems(), prices=st.lists(_DYADIC.map(lambda price: price * 8), max_size=8))
@settings(max_examples=200, deadline=None)
def test_the_cost_never_rises_and_the_predicted_quality_never_falls_with_a_lower_price(
    problem: tuple[np.ndarray, np.ndarray], prices: list[float]
) -> None:
    quality, costs = problem
    points = price_frontier(quality, quality, costs, np.sort(np.array(prices)))
    for lower, higher in itertools.pairwise(points):
        assert lower.cost >= higher.cost
        assert lower.quality >= higher.quality


@given(problem=problems(), share=st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_a_budget_is_met_and_nothing_within_it_beats_the_bound(
    problem: tuple[np.ndarray, np.ndarray], share: float
) -> None:
    quality, costs = problem
    cost_US = np.broadcast_to(costs, quality.shape)
    least, most = cost_US.min(axis=1).mean(), cost_US.max(axis=1).mean()
    budget = least + share * (most - least)
    price = price_for_budget(quality, costs, budget=budget)
    found = oracle_at_cost(quality, costs, budget=budget)
    outcome = routed(quality, costs, found.choice)
    assert outcome.cost <= budget
    if price > 0:  # the least such price: just below it the budget is broken
        below = choose(quality, costs, price * (1 - 1e-9))
        assert routed(quality, costs, below).cost > budget
    best = max(
        one.quality.mean()
        for choice in itertools.product(range(quality.shape[1]), repeat=len(quality))
        if (one := routed(quality, costs, np.array(choice))).cost <= budget
    )
    assert outcome.quality.mean() <= best + 1e-9 <= found.bound + 2e-9


def test_budgets_are_met_within_two_percent_with_many_users() -> None:
    generator = np.random.default_rng(0)
    costs = np.array([0.05, 0.15, 0.4, 1.0])
    gain = generator.random((3000, 1)) * np.sqrt(costs) + generator.normal(0, 0.01, (3000, 4))
    for budget in (0.1, 0.35, 0.7):
        price = price_for_budget(gain, costs, budget=budget)
        spent = routed(gain, costs, choose(gain, costs, price)).cost
        assert budget * 0.98 <= spent <= budget


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"quality has shape \(3,\)"):
        choose(COSTS, COSTS, 0.0)
    with pytest.raises(ValueError, match=r"costs have shape \(2,\); give \(3,\) or \(3, 3\)"):
        choose(QUALITY, COSTS[:2], 0.0)
    with pytest.raises(ValueError, match="quality holds NaN"):
        choose(QUALITY * np.nan, COSTS, 0.0)
    with pytest.raises(ValueError, match="costs must be finite and at least 0"):
        choose(QUALITY, -COSTS, 0.0)
    with pytest.raises(ValueError, match="price is -1"):
        choose(QUALITY, COSTS, -1.0)
    with pytest.raises(ValueError, match=r"choices span 0 to 3; submodels are 0\.\.2"):
        routed(QUALITY, COSTS, np.array([0, 0, 3]))
    with pytest.raises(ValueError, match=r"choice is float64 of shape \(3,\)"):
        random_routing(QUALITY, COSTS, np.zeros(3))  # type: ignore[arg-type]

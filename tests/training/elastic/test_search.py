"""Searches keep the budget to the byte; the knapsack is the best there is."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.elastic.search.evolution import EvolutionConfig, evolve
from training.elastic.search.knapsack import knapsack
from training.elastic.search.problem import Ints, Problem
from training.elastic.search.simple import by_popularity, random_choice, uniform


@st.composite
def problems(draw: st.DrawFn, most_groups: int = 5) -> Problem:
    groups = draw(st.integers(1, most_groups))
    widths = sorted(draw(st.sets(st.integers(1, 64), min_size=1, max_size=4)))
    rows = np.array(draw(st.lists(st.integers(1, 50), min_size=groups, max_size=groups)))
    bytes_GW = 4 * rows[:, None] * np.array(widths)
    gains = st.floats(0, 1) | st.just(0.0)
    values = [
        sorted(draw(st.lists(gains, min_size=len(widths), max_size=len(widths))))
        for _ in range(groups)
    ]
    traffic = np.array(draw(st.lists(st.floats(0, 1), min_size=groups, max_size=groups)))
    fixed = draw(st.integers(0, 100))
    least, most = int(bytes_GW[:, 0].sum()) + fixed, int(bytes_GW[:, -1].sum()) + fixed
    return Problem(
        budget=draw(st.integers(least, most + 10)),
        widths_W=np.array(widths),
        bytes_GW=bytes_GW,
        value_GW=np.array(values),
        traffic_G=traffic,
        fixed=fixed,
    )


def every_choice(problem: Problem) -> list[Ints]:
    places = range(len(problem.widths_W))
    return [np.array(one) for one in product(places, repeat=problem.groups)]


@settings(deadline=None)
@given(problems())
def test_the_knapsack_finds_what_trying_everything_finds(problem: Problem) -> None:
    found = knapsack(problem)
    feasible = [one for one in every_choice(problem) if problem.fits(one)]
    assert problem.fits(found)
    best = max(problem.value_of(one) for one in feasible)
    assert problem.value_of(found) == pytest.approx(best, abs=1e-8)


@settings(deadline=None)
@given(problems(), st.integers(0, 2**31))
def test_every_search_keeps_the_budget_and_leaves_no_step_unused(
    problem: Problem, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    for found in (uniform(problem), by_popularity(problem), random_choice(problem, generator)):
        assert problem.fits(found)
        for group in range(problem.groups):
            if found[group] < len(problem.widths_W) - 1:
                wider = found.copy()
                wider[group] += 1
                assert not problem.fits(wider)


@settings(deadline=None)
@given(problems(), st.integers(0, 500))
def test_more_memory_is_never_worth_less(problem: Problem, more: int) -> None:
    richer = Problem(
        budget=problem.budget + more,
        widths_W=problem.widths_W,
        bytes_GW=problem.bytes_GW,
        value_GW=problem.value_GW,
        traffic_G=problem.traffic_G,
        fixed=problem.fixed,
    )
    assert richer.value_of(knapsack(richer)) >= problem.value_of(knapsack(problem)) - 1e-8


def wide_problem(budget_share: float, seed: int = 0) -> Problem:
    rng = np.random.default_rng(seed)
    widths = np.array([2, 4, 8, 16, 32, 64])
    rows = np.full(20, 500) + np.arange(20) % 2
    bytes_GW = 4 * rows[:, None] * widths
    weight = 1 / np.arange(1, 21)
    value_GW = weight[:, None] * np.log2(widths) * (1 + 0.1 * rng.random((20, 1)))
    return Problem(
        budget=int(budget_share * bytes_GW[:, -1].sum()),
        widths_W=widths,
        bytes_GW=bytes_GW,
        value_GW=value_GW,
        traffic_G=weight / weight.sum(),
    )


@pytest.mark.parametrize("share", [0.05, 0.25, 0.9])
def test_twenty_groups_are_searched_exactly_and_nothing_simple_is_better(share: float) -> None:
    problem = wide_problem(share)
    best = problem.value_of(knapsack(problem))
    generator = np.random.default_rng(0)
    for other in (uniform(problem), by_popularity(problem), random_choice(problem, generator)):
        assert problem.value_of(other) <= best + 1e-8


def test_evolution_returns_the_best_it_measured_and_beats_chance() -> None:
    problem = wide_problem(0.2)
    seen: list[float] = []

    def label(choice_G: Ints) -> float:
        assert problem.fits(choice_G)
        seen.append(problem.value_of(choice_G))
        return seen[-1]

    config = EvolutionConfig(labels=20, rounds=2, generations=10)
    found = evolve(problem, label, config)
    assert problem.value_of(found) == pytest.approx(max(seen))
    assert max(seen) > max(seen[:20])
    assert len(seen) <= 20 + 2 * config.checked


def test_popularity_gives_popular_groups_the_wider_rows() -> None:
    found = by_popularity(wide_problem(0.3))
    assert (np.diff(found) <= 0).all()
    assert found[0] > found[-1]


def test_a_budget_below_the_least_is_refused_with_the_least() -> None:
    problem = wide_problem(0.5)
    with pytest.raises(ValueError, match=f"{problem.least:,} bytes, the least"):
        wide_problem(0.01)

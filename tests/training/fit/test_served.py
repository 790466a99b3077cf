"""Few submodels are served, by rising cost, up to the full network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise, product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.config import Submodel
from tests.models.builders import small_config
from training.fit.served import LEAST_SERVED, MOST_SERVED, candidates, pick_served

GRID = tuple(Submodel(depth=depth, width=8 * depth, emb_width=8) for depth in range(1, 13))


@given(
    quality=st.lists(st.integers(0, 50), min_size=12, max_size=12),
    cost=st.lists(st.integers(1, 999), min_size=11, max_size=11, unique=True),
)
def test_four_to_six_by_rising_cost_ends_included(quality: list[int], cost: list[int]) -> None:
    costs = [float(value) for value in cost] + [1000.0]
    served = pick_served(GRID, quality, costs)
    of = dict(zip(GRID, costs, strict=True))
    assert LEAST_SERVED <= len(served) <= MOST_SERVED
    assert served[-1] == GRID[-1]
    assert of[served[0]] <= 1.1 * min(of.values())
    assert all(of[one] < of[other] for one, other in pairwise(served))


def test_pareto_points_are_kept_before_dominated_ones() -> None:
    costs = [float(2**place) for place in range(12)]
    quality = [0.1, 0.0, 0.0, 0.3, 0.0, 0.0, 0.5, 0.0, 0.0, 0.6, 0.0, 0.7]
    assert pick_served(GRID, quality, costs) == [GRID[place] for place in (0, 3, 6, 9, 11)]


def test_a_poor_start_that_saves_next_to_nothing_is_left_out() -> None:
    costs = [10.0, 10.9, *(float(20 + place) for place in range(9)), 100.0]
    served = pick_served(GRID, [0.15, 0.18, *([0.1] * 9), 0.2], costs)
    assert GRID[0] not in served
    assert served[0] == GRID[1]


def test_dearer_than_full_is_never_served() -> None:
    costs = [1.0, 2.0, 3.0, 4.0, *([5000.0] * 7), 1000.0]
    served = pick_served(GRID, [0.5] * 12, costs)
    assert set(served) <= {*GRID[:4], GRID[-1]}


def test_grid_of_one_serves_the_full_network() -> None:
    assert pick_served(GRID[-1:], [0.5], [10.0]) == [GRID[-1]]


def test_candidates_read_lengths_that_most_histories_exceed() -> None:
    config = small_config()
    lengths = np.array([5, 9, 14, 18, 40, 40])
    found = candidates(config, lengths)
    assert found[-1] == config.largest
    assert {one.length for one in found if one.depth == 1} == {0, 1, 2, 4, 8, 16}
    assert {one.length for one in found if one.depth > 1} == {0, 4, 8, 16}
    assert {one.slice for one in found} == set(config.submodels)
    assert {one.length for one in candidates(config, lengths.clip(max=1))} == {0}
    assert candidates(config, lengths[:0]) == config.submodels


def test_what_no_mixture_needs_is_not_served() -> None:
    """Submodels of one MovieLens training: share of the full network's cost, quality."""
    measured = [
        *((0.030, 0.2963), (0.035, 0.2992), (0.043, 0.2992), (0.064, 0.3023), (0.087, 0.3035)),
        *((0.130, 0.3053), (0.190, 0.3075), (0.289, 0.3078), (0.382, 0.3080)),
        *((0.415, 0.3092), (0.713, 0.3096), (1.0, 0.3108)),
    ]
    cost, quality = zip(*measured, strict=True)
    served = pick_served(GRID, quality, cost)
    assert [cost[GRID.index(one)] for one in served] == [0.030, 0.035, 0.064, 0.190, 0.415, 1.0]


@given(data=st.data())
def test_every_budget_buys_as_much_as_from_the_whole_grid(data: st.DataObject) -> None:
    """As long as the corners of the hull are few enough; what is as cheap but worse is left out."""
    quality = data.draw(st.lists(st.floats(0.1, 0.9), min_size=4, max_size=6))
    cost = data.draw(st.lists(st.integers(1, 99), min_size=5, max_size=5, unique=True))
    quality = [*quality[:5], 0.9][-6:]
    costs = [*map(float, cost[: len(quality) - 1]), 100.0]
    grid = GRID[: len(quality)]
    served = [grid.index(one) for one in pick_served(grid, quality, costs)]
    whole = [place for place in range(len(grid)) if costs[place] >= costs[served[0]]]
    for budget in np.geomspace(costs[served[0]], 100.0, 9):
        assert best_mixture(served, quality, costs, budget) >= (
            best_mixture(whole, quality, costs, budget) - 1e-9
        )


def best_mixture(
    places: Iterable[int], quality: Sequence[float], cost: Sequence[float], budget: float
) -> float:
    """The best mean quality of two submodels mixed to cost no more than the budget."""
    points = [(cost[place], quality[place]) for place in places]
    found = [q for c, q in points if c <= budget]
    for (c, q), (dear, best) in product(points, repeat=2):
        if c <= budget < dear:
            found.append(q + (best - q) * (budget - c) / (dear - c))
    return max(found)

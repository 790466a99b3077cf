"""Few submodels are served, by rising cost, up to the full network."""

from __future__ import annotations

from itertools import pairwise

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
    assert min(of, key=lambda submodel: of[submodel]) == served[0]
    assert all(of[one] < of[other] for one, other in pairwise(served))


def test_pareto_points_are_kept_before_dominated_ones() -> None:
    costs = [float(2**place) for place in range(12)]
    quality = [0.1, 0.0, 0.0, 0.3, 0.0, 0.0, 0.5, 0.0, 0.0, 0.6, 0.0, 0.7]
    assert pick_served(GRID, quality, costs) == [GRID[place] for place in (0, 3, 6, 9, 11)]


def test_dearer_than_full_is_never_served() -> None:
    costs = [1.0, 2.0, 3.0, 4.0, *([5000.0] * 7), 1000.0]
    served = pick_served(GRID, [0.5] * 12, costs)
    assert set(served) <= {*GRID[:4], GRID[-1]}


def test_grid_of_one_serves_the_full_network() -> None:
    assert pick_served(GRID[-1:], [0.5], [10.0]) == [GRID[-1]]


def test_candidates_read_padded_lengths_that_most_histories_exceed() -> None:
    config = small_config()
    lengths = np.array([5, 9, 14, 18, 40, 40])
    found = candidates(config, lengths)
    assert found[-1] == config.largest
    assert {one.length for one in found} == {0, 8, 16}
    assert {one.slice for one in found} == set(config.submodels)
    assert {one.length for one in candidates(config, lengths.clip(max=8))} == {0}
    assert candidates(config, lengths[:0]) == config.submodels

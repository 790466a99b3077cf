"""What widths are worth: rising along widths, divided among groups by what all cases tell."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.checkpoint.elastic import ElasticEntry, RoutingSample
from training.elastic.search.knapsack import knapsack
from training.elastic.values import expected_ndcg, problem_of, values

WIDTHS = (2, 8, 32, 64)
GROUPS = 4
MEANS = st.floats(0, 1)
SHIFTS = st.floats(-1, 1)


def entry_of(
    uniform: list[float],
    divergence: list[list[float]],
    log_rank: list[list[float]] | None = None,
) -> ElasticEntry:
    """Return an entry of these measurements; whatever is at the whole width counts as 0."""
    still = tuple((0.0,) * len(WIDTHS) for _ in range(GROUPS))
    even = (1 / GROUPS,) * GROUPS
    return ElasticEntry(
        stops=(16, 31, 46, 61),
        widths=WIDTHS,
        scale=still,
        bias=still,
        cases=200,
        divergence=tuple((*row[:-1], 0.0) for row in divergence),
        log_rank=tuple((*row[:-1], 0.0) for row in log_rank or divergence),
        uniform_ndcg_10=tuple(uniform),
        exposure=tuple(even for _ in WIDTHS),
        traffic=even,
        routing=RoutingSample(buckets=(8,), quality=((0.1,),), ndcg_10=((0.1,),)),
    )


@given(
    st.lists(MEANS, min_size=4, max_size=4),
    st.lists(st.lists(MEANS, min_size=4, max_size=4), min_size=4, max_size=4),
    st.lists(st.lists(SHIFTS, min_size=4, max_size=4), min_size=4, max_size=4),
)
def test_wider_is_never_worse_whatever_was_measured(
    uniform: list[float], divergence: list[list[float]], log_rank: list[list[float]]
) -> None:
    entry = entry_of(uniform, divergence, log_rank)
    value_GW = values(entry)
    assert value_GW.shape == (GROUPS, len(WIDTHS))
    assert np.isfinite(value_GW).all()
    assert (np.diff(value_GW, axis=1) >= 0).all()
    assert (value_GW[:, -1] == 0).all()
    assert expected_ndcg(entry, (WIDTHS[-1],) * GROUPS) == uniform[-1]
    budget = problem_of(entry, 10**6, 2).most
    choice_G = knapsack(problem_of(entry, budget, 2))
    assert (choice_G == len(WIDTHS) - 1).all()


def test_all_groups_at_one_width_cost_what_was_seen() -> None:
    falls = [0.1, 0.04, 0.01, 0.0]
    uniform = [0.5 - fall for fall in falls]
    entry = entry_of(uniform, [[7 * fall for fall in falls]] * GROUPS)
    for width, ndcg in zip(WIDTHS, uniform, strict=True):
        assert expected_ndcg(entry, (width,) * GROUPS) == pytest.approx(ndcg)


def test_half_is_told_by_divergence_and_half_by_the_targets_ranks() -> None:
    uniform = [0.4, 0.45, 0.48, 0.5]
    falls = [1.0, 0.5, 0.2, 0.0]
    still = [0.0] * 4
    value_GW = values(entry_of(uniform, [falls, still, still, still], [still, falls, still, still]))
    assert value_GW[:, 0] / value_GW[:, 0].sum() == pytest.approx([0.5, 0.5, 0.0, 0.0])
    # Neither's unit matters.
    scaled = [[100 * one for one in falls], still, still, still]
    other_GW = values(entry_of(uniform, scaled, [still, falls, still, still]))
    assert other_GW == pytest.approx(value_GW)


def test_a_group_that_gains_by_being_narrow_is_worth_nothing_more() -> None:
    uniform = [0.4, 0.45, 0.48, 0.5]
    falls, gains = [1.0, 0.5, 0.2, 0.0], [-3.0, -2.0, -1.0, 0.0]
    value_GW = values(entry_of(uniform, [falls] * 4, [falls, falls, falls, gains]))
    assert (value_GW[3] == 0).all()
    assert (value_GW[:3, :-1] < 0).all()


def test_no_loss_seen_leaves_a_small_one() -> None:
    value_GW = values(entry_of([0.5] * 4, [[1.0, 0.5, 0.2, 0.0]] * GROUPS))
    assert (value_GW[:, 0] < 0).all()
    assert value_GW.sum() > -1e-4


def test_the_problem_s_least_does_not_depend_on_what_was_measured() -> None:
    one = problem_of(entry_of([0.1, 0.2, 0.3, 0.4], [[0.4] * 4] * GROUPS), 10**6, 2)
    other = problem_of(entry_of([0.4] * 4, [[0.1] * 4] * GROUPS), 10**6, 2)
    assert one.least == other.least

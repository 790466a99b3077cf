"""What widths are worth: smooth along widths, divided among groups, not swayed by chance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.checkpoint.elastic import ElasticEntry, RoutingSample
from training.elastic.values import expected_ndcg, problem_of, values

WIDTHS = (2, 8, 32, 64)
GROUPS = 4
MEANS = st.floats(0, 1, allow_nan=False)


def entry_of(
    uniform: list[float], alone: list[list[float]], traffic: list[float] | None = None
) -> ElasticEntry:
    still = tuple((0.0,) * len(WIDTHS) for _ in range(GROUPS))
    even = (1 / GROUPS,) * GROUPS
    return ElasticEntry(
        stops=(16, 31, 46, 61),
        widths=WIDTHS,
        scale=still,
        bias=still,
        cases=200,
        ndcg_10=tuple(map(tuple, alone)),
        uniform_ndcg_10=tuple(uniform),
        exposure=tuple(even for _ in WIDTHS),
        traffic=tuple(traffic or even),
        routing=RoutingSample(buckets=(8,), quality=((0.1,),), ndcg_10=((0.1,),)),
    )


def power_law(loss: float, power: float) -> list[float]:
    """Return 0.5 less a loss that falls with the width and is `loss` at the narrowest."""
    shape = [width**-power - WIDTHS[-1] ** -power for width in WIDTHS]
    return [0.5 - loss * one / shape[0] for one in shape]


@given(
    st.lists(MEANS, min_size=4, max_size=4),
    st.lists(st.lists(MEANS, min_size=4, max_size=4), min_size=4, max_size=4),
    st.lists(MEANS, min_size=4, max_size=4),
)
def test_wider_is_never_worse_whatever_was_measured(
    uniform: list[float], alone: list[list[float]], traffic: list[float]
) -> None:
    value_GW = values(entry_of(uniform, alone, traffic))
    assert np.isfinite(value_GW).all()
    assert (np.diff(value_GW, axis=1) >= 0).all()
    assert (value_GW[:, -1] == 0).all()
    assert value_GW[:, 0].sum() < 0


def test_all_groups_at_one_width_cost_what_was_seen() -> None:
    uniform = power_law(0.1, 0.7)
    entry = entry_of(uniform, [[0.49, 0.495, 0.498, 0.5]] * GROUPS)
    for width, ndcg in zip(WIDTHS, uniform, strict=True):
        assert expected_ndcg(entry, (width,) * GROUPS) == pytest.approx(ndcg)


def test_a_dent_in_the_curve_is_smoothed_away() -> None:
    uniform = power_law(0.1, 0.7)
    dented = [uniform[0], uniform[2] + 0.001, uniform[2], uniform[3]]
    joint_W = values(entry_of(dented, [[0.5] * 4] * GROUPS)).sum(axis=0)
    assert (np.diff(joint_W) > 0).all()


def test_a_group_is_worth_what_it_lost_and_how_often_it_is_met() -> None:
    uniform = power_law(0.1, 0.5)
    loses = [[0.5 - 0.02 * (0.5 - one) / 0.1 for one in uniform]]
    gains = [[0.51, 0.505, 0.502, 0.5]]
    value_GW = values(entry_of(uniform, loses + gains * 3))
    share_G = value_GW[:, 0] / value_GW[:, 0].sum()
    # Half by what was seen, all of it by the first; half by traffic, which is even here.
    assert share_G == pytest.approx([0.5 + 0.125, 0.125, 0.125, 0.125])
    popular = values(entry_of(uniform, [[0.5] * 4] * GROUPS, [0.7, 0.1, 0.1, 0.1]))
    assert popular[0, 0] / popular[:, 0].sum() == pytest.approx(0.5 * 0.25 + 0.5 * 0.7)


def test_the_problem_s_least_does_not_depend_on_what_was_measured() -> None:
    one = problem_of(entry_of([0.1, 0.2, 0.3, 0.4], [[0.4] * 4] * GROUPS), 10**6, 2)
    other = problem_of(entry_of([0.4] * 4, [[0.1] * 4] * GROUPS), 10**6, 2)
    assert one.least == other.least

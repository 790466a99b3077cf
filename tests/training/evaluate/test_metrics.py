"""Metrics: worked by hand, and against a slow ranking written from the definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.sequences import Sequences
from training.evaluate.metrics import (
    coverage_at,
    hr_at,
    mrr_at,
    ndcg_at,
    rank_of_target,
    top_items,
)

# Rows 0..4; row 0 is padding and scores highest.
SCORES = torch.tensor([[9.0, 0.4, 0.3, 0.2, 0.1]])


def rank(scores: torch.Tensor, target: int, seen: list[int] | None = None) -> float:
    lists = None if seen is None else [np.array(seen, np.int64)]
    ranks = rank_of_target(scores, torch.tensor([target]), lists)
    assert ranks.dtype == torch.float64
    return float(ranks[0])


def test_the_rank_counts_better_items_and_never_padding() -> None:
    assert [rank(SCORES, target) for target in (1, 2, 3, 4)] == [1.0, 2.0, 3.0, 4.0]


def test_padding_may_be_minus_infinity_or_nan() -> None:
    for value in (-math.inf, math.nan):
        scores = SCORES.clone()
        scores[0, 0] = value
        assert rank(scores, 3) == 3.0


def test_seen_items_leave_the_ranking_but_the_target_stays() -> None:
    assert rank(SCORES, 3, seen=[1]) == 2.0
    assert rank(SCORES, 3, seen=[1, 1, 0, 1]) == 2.0  # repeats and padding change nothing
    assert rank(SCORES, 3, seen=[1, 3]) == 2.0
    assert rank(SCORES, 3, seen=[1, 2, 4]) == 1.0
    assert rank(SCORES, 3, seen=[]) == 3.0


def test_ties_count_at_their_mean_rank() -> None:
    scores = torch.tensor([[0.0, 0.5, 0.5, 0.5, 0.9]])
    # 4 is first; 1, 2, 3 share ranks 2, 3, 4: mean 3.
    assert rank(scores, 2) == 3.0
    assert rank(scores, 2, seen=[1]) == 2.5
    assert rank(scores, 2, seen=[1, 3, 4]) == 1.0


def test_a_constant_model_ranks_in_the_middle() -> None:
    assert rank(torch.zeros(1, 102), 7) == 51.0


def test_sequences_serve_as_seen_lists() -> None:
    seen = Sequences(offsets=np.array([0, 1, 1]), items=np.array([1]))
    ranks = rank_of_target(SCORES.expand(2, -1), torch.tensor([2, 2]), seen)
    assert ranks.tolist() == [1.0, 2.0]


def test_scores_are_left_as_they_were() -> None:
    scores = SCORES.clone()
    rank(scores, 3, seen=[1])
    top_items(scores, 2, [np.array([1])])
    assert torch.equal(scores, SCORES)


def test_metrics_worked_by_hand() -> None:
    ranks = np.array([1.0, 3.0, 10.0, 10.5, 20.0, 21.0])
    assert hr_at(ranks, 10).tolist() == [1, 1, 1, 0, 0, 0]
    assert hr_at(ranks, 20).tolist() == [1, 1, 1, 1, 1, 0]
    np.testing.assert_allclose(ndcg_at(ranks, 10), [1.0, 0.5, 0.2890648263, 0, 0, 0], rtol=1e-9)
    np.testing.assert_allclose(mrr_at(ranks, 10), [1.0, 1 / 3, 0.1, 0, 0, 0])
    np.testing.assert_allclose(mrr_at(ranks, 20)[3:], [1 / 10.5, 0.05, 0])
    assert hr_at(ranks, 10).mean() == 0.5


def test_no_users_give_no_ranks() -> None:
    ranks = rank_of_target(torch.zeros(0, 5), torch.zeros(0, dtype=torch.int64), []).numpy()
    assert ranks.shape == ndcg_at(ranks, 10).shape == (0,)


def test_coverage_counts_each_item_once_and_no_padding() -> None:
    lists = np.array([[1, 2, 4], [2, 1, 0]])
    assert coverage_at(lists, 2, num_items=4) == 0.5
    assert coverage_at(lists, 3, num_items=4) == 0.75


def test_top_items_leave_out_padding_and_seen_and_pad_what_is_missing() -> None:
    assert top_items(SCORES, 2).tolist() == [[1, 2]]
    assert top_items(SCORES, 3, [np.array([1, 3])]).tolist() == [[2, 4, 0]]
    assert top_items(SCORES, 7).tolist() == [[1, 2, 3, 4, 0, 0, 0]]


def slow_rank(scores: list[float], target: int, seen: list[int]) -> float:
    """The mean place of the target over the best and worst order of its ties."""
    ranked = [row for row in range(1, len(scores)) if row == target or row not in seen]
    best = sorted(ranked, key=lambda row: (-scores[row], row != target)).index(target) + 1
    worst = sorted(ranked, key=lambda row: (-scores[row], row == target)).index(target) + 1
    return (best + worst) / 2


@given(data=st.data(), items=st.integers(1, 12), users=st.integers(1, 5))
@settings(max_examples=200, deadline=None)
def test_ranks_equal_slow_ranking(data: st.DataObject, items: int, users: int) -> None:
    row = st.lists(st.sampled_from([-1.5, 0.0, 0.25, 3.0]), min_size=items + 1, max_size=items + 1)
    scores = data.draw(st.lists(row, min_size=users, max_size=users))
    targets = data.draw(st.lists(st.integers(1, items), min_size=users, max_size=users))
    some = st.lists(st.integers(0, items), max_size=8)
    seen = data.draw(st.lists(some, min_size=users, max_size=users))
    ranks = rank_of_target(
        torch.tensor(scores), torch.tensor(targets), [np.array(one, np.int64) for one in seen]
    )
    assert ranks.tolist() == [slow_rank(*one) for one in zip(scores, targets, seen, strict=True)]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_refused(value: float) -> None:
    scores = SCORES.clone()
    scores[0, 2] = value
    for call in (lambda: rank(scores, 1), lambda: top_items(scores, 1)):
        with pytest.raises(ValueError, match=r"not finite: user 0 has \S+ in row 2"):
            call()


def test_wrong_arguments_are_named() -> None:
    one = torch.tensor([1])
    with pytest.raises(ValueError, match=r"targets span 5 to 5; they must lie in 1\.\.4"):
        rank(SCORES, 5)
    with pytest.raises(ValueError, match="targets span 0 to 0"):
        rank(SCORES, 0)
    with pytest.raises(ValueError, match=r"seen items span 1 to 5; rows must lie in 0\.\.4"):
        rank(SCORES, 1, seen=[1, 5])
    with pytest.raises(ValueError, match="seen lists 2 users, the scores 1"):
        rank_of_target(SCORES, one, [np.array([1]), np.array([1])])
    with pytest.raises(ValueError, match=r"targets have shape \(2,\); 1 users"):
        rank_of_target(SCORES, torch.tensor([1, 2]))
    with pytest.raises(ValueError, match=r"scores are torch.int64 of shape \(1, 1\)"):
        rank_of_target(torch.tensor([[1]]), one)
    with pytest.raises(ValueError, match="k is 0"):
        hr_at(np.ones(1), 0)
    with pytest.raises(ValueError, match="at least 1"):
        ndcg_at(np.array([np.nan]), 10)
    with pytest.raises(ValueError, match=r"coverage@3 needs \(users, 3\)"):
        coverage_at(np.zeros((1, 2), np.int64), 3, num_items=4)
    with pytest.raises(ValueError, match=r"rows must lie in 0\.\.1"):
        coverage_at(np.array([[2]]), 1, num_items=1)

"""Baselines: worked by hand, and against scores written from the definitions."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.sequences import Sequences
from training.data.split import EvalCases
from training.evaluate import baselines
from training.evaluate.baselines import Baseline, Markov, Popularity, Window, baseline_ranks


def sequences(lists: list[list[int]]) -> Sequences:
    return Sequences(
        offsets=np.cumsum([0] + [len(one) for one in lists]).astype(np.int64),
        items=np.array([item for one in lists for item in one], np.int64),
    )


def order(baseline: Baseline, history: list[int]) -> list[set[int]]:
    """Rows from best to worst, ties together."""
    scores = baseline.scores([np.array(history, np.int64)])[0]
    assert scores[0] == -np.inf
    levels = sorted({float(score) for score in scores[1:]}, reverse=True)
    return [{row for row in range(1, len(scores)) if scores[row] == level} for level in levels]


TRAINING = sequences([[1, 2, 3], [1, 3], [2, 4], [5, 3]])  # 3 thrice; 1, 2 twice; 4, 5 once


def test_popularity_orders_by_training_counts() -> None:
    assert order(Popularity(TRAINING, num_items=6), [4]) == [{3}, {1, 2}, {4, 5}, {6}]


def test_markov_follows_the_last_item_and_popularity_breaks_ties() -> None:
    # After 2 came 3 once and 4 once: equal counts, and 3 is more popular.
    assert order(Markov(TRAINING, num_items=6), [5, 2]) == [{3}, {4}, {1, 2}, {5}, {6}]


def test_an_empty_or_unknown_history_falls_back_to_popularity() -> None:
    window = Window(TRAINING, num_items=6)
    assert order(window, []) == order(window, [6]) == [{3}, {1, 2}, {4, 5}, {6}]


def test_window_weighs_distance_and_age() -> None:
    training = sequences([[1, 2, 3], [4, 5], [4, 5]])
    # History 4, 1: from 1 (age 1) comes 2 with 1 and 3 with 1/2; from 4 (age 2) 5 with 2 / 2 = 1.
    # So 2 and 5 tie on evidence, and 5 is more popular.
    assert order(Window(training, num_items=5, steps=2), [4, 1]) == [{5}, {2}, {3}, {4}, {1}]
    # An item three steps back is outside two steps: popularity orders all but 2's successor 3.
    window = Window(training, num_items=5, steps=2)
    assert order(window, [4, 2, 3]) == [{3}, {4, 5}, {1, 2}]


def test_ranks_leave_the_history_out_only_when_asked() -> None:
    cases = EvalCases(
        histories=sequences([[3, 1], [3]]), targets=np.array([4, 3]), users=np.array([0, 1])
    )
    popularity = Popularity(TRAINING, num_items=6)
    # Without 3 and 1, user 0's target 4 stands behind 2, tied with 5.
    assert baseline_ranks(popularity, cases, exclude_seen=True).tolist() == [2.5, 1.0]
    assert baseline_ranks(popularity, cases, exclude_seen=False).tolist() == [4.5, 1.0]


def slow_key(
    training: list[list[int]], history: list[int], item: int, steps: int
) -> tuple[np.float32, int]:
    evidence = 0.0
    for age, source in enumerate(reversed(history[-steps:]), start=1):
        for one in training:
            for place, earlier in enumerate(one):
                for distance in range(1, steps + 1):
                    later = place + distance
                    if earlier == source and later < len(one) and one[later] == item:
                        evidence += 1 / distance / age
    return np.float32(evidence), Counter(i for one in training for i in one)[item]


@given(data=st.data(), items=st.integers(1, 7), steps=st.sampled_from([1, 2, 5]))
@settings(max_examples=100, deadline=None)
def test_ranks_equal_slow_scores(data: st.DataObject, items: int, steps: int) -> None:
    """Batches do not matter. Sums of thirds and fifths that are equal may be rounded apart."""
    lists = st.lists(st.lists(st.integers(1, items), max_size=7), max_size=5)
    training = data.draw(lists)
    histories = data.draw(lists)
    targets = [data.draw(st.integers(1, items)) for _ in histories]
    cases = EvalCases(
        histories=sequences(histories),
        targets=np.array(targets, np.int64),
        users=np.arange(len(targets)),
    )
    window = Window(sequences(training), num_items=items, steps=steps)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "_CELLS", data.draw(st.sampled_from([1, 20, 1_000_000])))
        ranks = baseline_ranks(window, cases, exclude_seen=False)
    for history, target, rank in zip(histories, targets, ranks, strict=True):
        keys = [slow_key(training, history, item, steps) for item in range(1, items + 1)]
        own = keys[target - 1]

        rounded = [abs(one[0] - own[0]) < 1e-5 and one[0] > 0 and steps > 2 for one in keys]
        exact = [one for one, unclear in zip(keys, rounded, strict=True) if not unclear]
        clear = sum(0.5 if one == own else float(one > own) for one in exact)
        if not any(rounded):
            assert rank == 0.5 + clear  # the target itself gives a half
        else:
            assert 1.0 + clear <= rank <= clear + sum(rounded)


def test_too_many_scores_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "_MOST_CELLS", 20)
    window = Window(TRAINING, num_items=6)
    with pytest.raises(ValueError, match=r"3 histories times 7 rows .* pass at most 2"):
        window.scores([np.array([1])] * 3)

"""Batched selection equals sorting every row: ties, -inf, any k, any catalog size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engine.selection import Selector


@settings(max_examples=200, deadline=None)
@given(
    rows=st.sampled_from([2, 3, 40, 65, 700, 5000]),
    batch=st.integers(1, 5),
    levels=st.sampled_from([1, 3, 50, 1_000_000]),
    shut=st.sampled_from([0.0, 0.5, 0.999, 1.0]),
    excluded=st.sampled_from([0, 3, 60]),
    k=st.integers(1, 200),
    seed=st.integers(0, 2**16),
)
def test_best_equals_a_full_sort(
    rows: int, batch: int, levels: int, shut: float, excluded: int, k: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    scores_BV = (generator.integers(0, levels, (batch, rows)) - levels / 2).astype(np.float32)
    scores_BV[generator.random((batch, rows)) < shut] = -np.inf
    closed = [generator.integers(0, rows, excluded) for _ in range(batch)]
    ks = [int(one) for one in generator.integers(1, k + 1, batch)]
    given_BV = scores_BV.copy()
    answers = Selector().best(scores_BV, closed, ks)
    for scores_V, wanted, left_out, found in zip(given_BV, ks, closed, answers, strict=True):
        eligible = set(np.flatnonzero(scores_V > -np.inf).tolist()) - set(left_out.tolist())
        expected = sorted(eligible, key=lambda row: (-scores_V[row], row))[:wanted]
        assert found == (expected, [float(scores_V[row]) for row in expected])


def test_a_score_that_is_no_number_is_refused() -> None:
    scores_BV = np.zeros((2, 70), dtype=np.float32)
    scores_BV[1, 3] = np.nan
    none = np.empty(0, dtype=np.int64)
    with pytest.raises(FloatingPointError, match="not a number"):
        Selector().best(scores_BV, [none, none], [5, 5])

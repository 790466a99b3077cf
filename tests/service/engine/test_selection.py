"""Batched selection equals sorting every row: ties, -inf, any k, any catalog size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engine.selection import ScoreBuffer


@settings(max_examples=200, deadline=None)
@given(
    rows=st.sampled_from([2, 3, 40, 65, 700, 5000]),
    batch=st.integers(1, 5),
    levels=st.sampled_from([1, 3, 50, 1_000_000]),
    closed=st.sampled_from([0.0, 0.5, 0.999, 1.0]),
    k=st.integers(1, 200),
    seed=st.integers(0, 2**16),
)
def test_best_equals_a_full_sort(
    rows: int, batch: int, levels: int, closed: float, k: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    buffer = ScoreBuffer(rows)
    scores_BV = buffer.take(batch)
    scores_BV[:, :rows] = generator.integers(0, levels, (batch, rows)) - levels / 2
    scores_BV[:, :rows][generator.random((batch, rows)) < closed] = -np.inf
    ks = [int(one) for one in generator.integers(1, k + 1, batch)]
    for scores_V, wanted, found in zip(scores_BV, ks, buffer.best(scores_BV, ks), strict=True):
        eligible = [row for row in range(rows) if scores_V[row] > -np.inf]
        expected = sorted(eligible, key=lambda row: (-scores_V[row], row))[:wanted]
        assert found == (expected, [float(scores_V[row]) for row in expected])


def test_a_reused_buffer_keeps_its_spare_columns_closed() -> None:
    buffer = ScoreBuffer(70)
    for batch in (4, 2, 9):
        scores_BV = buffer.take(batch)
        assert scores_BV.flags.c_contiguous
        scores_BV[:, :70] = 0.0
        assert buffer.best(scores_BV, [80] * batch) == [(list(range(70)), [0.0] * 70)] * batch


def test_a_score_that_is_no_number_is_refused() -> None:
    buffer = ScoreBuffer(70)
    scores_BV = buffer.take(2)
    scores_BV[:, :70] = 0.0
    scores_BV[1, 3] = np.nan
    with pytest.raises(FloatingPointError, match="not a number"):
        buffer.best(scores_BV, [5, 5])

"""Which blocks a group keeps: those that carry its scores, whatever the others repeat."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.elastic.config import ElasticConfig
from training.elastic.order import Floats, block_orders, greedy

ELASTIC = ElasticConfig(stops=(200, 400), widths=(2, 8), blocks=4)


def vectors(rows: int, lengths: list[float], seed: int) -> Floats:
    """Four blocks of two columns, each of its own length."""
    drawn: Floats = np.random.default_rng(seed).normal(size=(rows, 8)) * np.repeat(lengths, 2)
    return drawn


def test_each_group_keeps_what_carries_its_own_scores() -> None:
    rows = np.concatenate([vectors(200, [1, 4, 2, 0.5], 0), vectors(200, [0.5, 1, 2, 4], 1)])
    queries = vectors(300, [1, 1, 1, 1], 2)
    table_VE = torch.from_numpy(rows).float()
    assert block_orders(ELASTIC, table_VE, queries) == ((1, 2, 0, 3), (3, 2, 1, 0))
    # Columns that no query asks for carry nothing, however large they are.
    unread = vectors(300, [1, 0, 1, 1], 2)
    assert block_orders(ELASTIC, table_VE, unread)[0] == (2, 0, 3, 1)


def test_a_block_that_repeats_another_comes_after_one_of_its_own() -> None:
    rows, queries = vectors(200, [2, 1.9, 1.5, 1], 3), vectors(300, [1, 1, 1, 1], 4)
    rows[:, 2:4], queries[:, 2:4] = rows[:, :2], queries[:, :2]
    alone = ElasticConfig(stops=(200,), widths=(2, 8), blocks=4)
    (order,) = block_orders(alone, torch.from_numpy(rows).float(), queries)
    assert order[:2] == (0, 2)


def test_what_all_pairs_share_is_left_to_the_bias() -> None:
    rows, queries = vectors(200, [0.1, 1, 1.5, 0.5], 5), vectors(300, [0.1, 1, 1, 1], 6)
    alone = ElasticConfig(stops=(200,), widths=(2, 8), blocks=4)
    rows[:, 0], queries[:, 0] = 50.0, 50.0
    (order,) = block_orders(alone, torch.from_numpy(rows).float(), queries)
    assert order[-1] == 0


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**31), st.integers(2, 9))
def test_every_order_names_every_block_and_begins_with_the_best(seed: int, blocks: int) -> None:
    factors = np.random.default_rng(seed).normal(size=(2 * blocks, blocks))
    covariance = factors.T @ factors
    order = greedy(covariance)
    assert sorted(order) == list(range(blocks))
    explained = np.maximum(covariance.sum(1), 0) ** 2 / np.diagonal(covariance)
    assert explained[order[0]] == explained.max()


def test_an_empty_table_keeps_its_blocks_in_their_own_order() -> None:
    assert greedy(np.zeros((4, 4))) == (0, 1, 2, 3)

"""The memory's surprise is its definition, cheap, and shown only to routers that know it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.config import MemoryConfig
from models.cost import router_flops
from models.histories import Histories
from models.memory import TransitionMemory
from models.ranker import Ranker
from models.router import FEATURE_SETS, NEWEST, ROUTER_FEATURES
from models.surprise import STEPS, SURPRISE_FEATURES, Surprise
from tests.models.builders import (
    random_histories,
    random_memory,
    random_router,
    random_supernet,
    small_config,
)

CONFIG = small_config()
MEMORY = random_memory(CONFIG)
ids = st.integers(1, CONFIG.num_items)


def plain(memory: TransitionMemory, history: list[int]) -> list[float]:
    """The definition, pair by pair; the history stands oldest first."""
    weight = {
        (row, int(memory.items[n])): float(memory.weights[n])
        for row in range(memory.num_items + 1)
        for n in range(int(memory.offsets[row]), int(memory.offsets[row + 1]))
    }
    newest = history[-NEWEST:]
    best = [0.0] * len(newest)
    means = []
    for step in range(1, STEPS + 1):
        found = []
        for place in range(step, len(newest)):
            worth = math.log1p(weight.get((newest[place - step], newest[place]), 0.0))
            best[place] = max(best[place], worth)
            found.append(worth)
        means.append(sum(found) / len(found) if found else 0.0)
    return [*means, sum(best[1:]) / (len(best) - 1) if len(best) > 1 else 0.0]


@settings(deadline=None)
@given(batch=st.lists(st.lists(ids, max_size=14), min_size=1, max_size=4))
def test_surprise_is_its_definition_and_no_other_history_matters(batch: list[list[int]]) -> None:
    assert MEMORY is not None
    surprise, recent_BW = Surprise(MEMORY), Histories(batch).newest(NEWEST)
    seen_BC = surprise(recent_BW)
    assert np.allclose(seen_BC, [plain(MEMORY, one) for one in batch], atol=1e-5)
    for place in range(len(batch)):
        assert (surprise(recent_BW[place : place + 1]) == seen_BC[place]).all()


def test_two_threads_by_hand() -> None:
    """1 -> 2 -> 3 and 11 -> 12 taken in turns: nothing one step apart, everything two."""
    memory = TransitionMemory(
        config=MemoryConfig(),
        offsets=torch.tensor([0, 0, 1, 2, *[2] * 8, 3, 3], dtype=torch.int32),
        items=torch.tensor([2, 3, 12], dtype=torch.int32),
        weights=torch.tensor([math.e - 1] * 3),
    )
    recent_BW = Histories([[1, 11, 2, 12, 3]]).newest(NEWEST)
    found = Surprise(memory)(recent_BW)[0].tolist()
    assert found == pytest.approx([0.0, 1.0, 0.0, 0.0, 3 / 4])


def test_what_it_costs_is_the_most_that_it_can_read() -> None:
    assert MEMORY is not None
    lengths_V = np.diff(MEMORY.offsets.numpy())
    worst = int(lengths_V.argmax())
    assert Surprise(MEMORY).flops(NEWEST) == 2 * (NEWEST - 1) * int(lengths_V[worst])
    assert Surprise(MEMORY).flops(1) == Surprise(MEMORY).flops(0) == 0


@pytest.mark.parametrize("features", FEATURE_SETS)
def test_a_router_sees_what_it_was_taught_with(features: int) -> None:
    assert MEMORY is not None
    supernet, served = random_supernet(CONFIG), CONFIG.submodels
    ranker = Ranker(supernet, MEMORY, random_router(18, features=features), served)
    rows = random_histories(CONFIG, 5)
    recent_BW = Histories(rows).newest(NEWEST)
    lengths_B = np.array([len(row) for row in rows], dtype=np.int64)
    seen_BC = ranker.features(recent_BW, lengths_B)
    assert seen_BC.shape == (5, features)
    told = features > ROUTER_FEATURES
    if told:
        assert (seen_BC[:, ROUTER_FEATURES:] == Surprise(MEMORY)(recent_BW)).all()
    bare_BC = Ranker(supernet, MEMORY, None, served).features(recent_BW, lengths_B)
    assert (bare_BC[:, :features] == seen_BC).all()
    looked_up = Surprise(MEMORY).flops(NEWEST) if told else 0
    assert ranker.cost(0, 8, routed=True).router == router_flops(features, 8, 18, looked_up)
    assert ranker.quality(recent_BW, lengths_B).shape == (5, 18)


def test_without_a_memory_there_is_no_surprise() -> None:
    config = replace(CONFIG, memory=None)
    bare = Ranker(random_supernet(config), None, None, config.submodels)
    recent_BW = Histories([[1, 2, 3]]).newest(NEWEST)
    assert bare.features(recent_BW, np.array([3])).shape == (1, ROUTER_FEATURES)
    assert FEATURE_SETS[1] - FEATURE_SETS[0] == SURPRISE_FEATURES

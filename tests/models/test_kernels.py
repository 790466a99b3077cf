"""What is compiled for serving equals its definition, whatever the batch."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.arrays import Floats, Ids
from models.histories import Histories
from models.memory import TransitionMemory
from models.memory_lookup import MemoryLookup
from models.product import OnnxProduct, TorchProduct, make_product
from models.router import NEWEST, ROUTER_FEATURES, ItemView, RouterForward, features
from tests.models.builders import (
    PREFIXES,
    random_memory,
    random_router,
    random_supernet,
    small_config,
)
from tests.models.naive import evidence

CONFIG = small_config()
SUPERNET = random_supernet(CONFIG)
MEMORY = random_memory(CONFIG)

ids = st.integers(1, CONFIG.num_items)
batches = st.lists(st.lists(ids, max_size=30), min_size=1, max_size=6)


@settings(deadline=None)
@given(batch=batches, arrays=st.booleans(), length=st.integers(1, 25))
def test_histories_are_cut_and_padded_like_lists(
    batch: list[list[int]], arrays: bool, length: int
) -> None:
    given_ = [np.array(one, dtype=np.int64) for one in batch] if arrays else batch
    histories = Histories(given_)
    padding = [0] * length
    expected = [(one[::-1] + padding)[:length] for one in batch]
    assert histories.newest(length).tolist() == expected
    for members in (None, list(range(len(batch)))[::2], []):
        chosen = batch if members is None else [batch[member] for member in members]
        ids_ML, lengths_M = histories.stack(length, members)
        assert ids_ML.shape == (len(chosen), length)
        assert ids_ML.tolist() == [(one[-length:] + padding)[:length] for one in chosen]
        assert lengths_M.tolist() == [min(len(one), length) for one in chosen]


def test_no_histories_are_a_batch_of_none() -> None:
    histories = Histories([])
    assert len(histories) == 0
    assert histories.newest(3).shape == (0, 3)


def plain_features(seen_WG: Floats, length: int, most: int) -> list[float]:
    """The router's view of one history, by its definition."""
    seen_WG = seen_WG[: min(length, NEWEST)].astype(np.float64)
    mean_G = seen_WG.mean(axis=0)
    prefix_WT, mean_T = seen_WG[:, 3:], mean_G[3:]
    norms_W, mean_norm = np.linalg.norm(prefix_WT, axis=1), np.linalg.norm(mean_T)
    return [
        math.log1p(length) / math.log1p(most),
        length / most,
        float(seen_WG[:, 0].std()),
        float(mean_norm / max(norms_W.mean(), 1e-6)),
        float(prefix_WT[0] @ mean_T / (max(norms_W[0], 1e-6) * max(mean_norm, 1e-6))),
        *seen_WG[0],
        *mean_G,
    ]


@settings(deadline=None)
@given(batch=st.lists(st.lists(ids, min_size=1, max_size=20), min_size=1, max_size=5))
def test_routing_is_its_definition_and_no_other_history_matters(batch: list[list[int]]) -> None:
    view = ItemView(SUPERNET.item_table, MEMORY)
    forward, router = RouterForward(random_router(6)), random_router(6)
    recent_BW = Histories(batch).newest(NEWEST)
    lengths_B = np.array([len(one) for one in batch])
    seen_BC = features(view(recent_BW), lengths_B, CONFIG.max_length)
    assert seen_BC.shape == (len(batch), ROUTER_FEATURES)
    expected = [
        plain_features(view(recent_W), length, CONFIG.max_length)
        for recent_W, length in zip(recent_BW, lengths_B.tolist(), strict=True)
    ]
    assert np.allclose(seen_BC, expected, atol=1e-5)
    quality_BS = forward(seen_BC)
    with torch.inference_mode():
        assert np.allclose(quality_BS, router(torch.from_numpy(seen_BC)), atol=1e-5)
    for place in range(len(batch)):
        one = slice(place, place + 1)
        alone_BC = features(view(recent_BW[one]), lengths_B[one], CONFIG.max_length)
        assert (alone_BC == seen_BC[one]).all()
        assert (forward(alone_BC) == quality_BS[one]).all()


@settings(deadline=None)
@given(batch=st.lists(st.lists(ids, max_size=8), min_size=1, max_size=5))
def test_the_memory_adds_the_logarithm_of_its_evidence(batch: list[list[int]]) -> None:
    assert MEMORY is not None
    lookup = MemoryLookup(MEMORY)
    recent_BW = Histories(batch).newest(lookup.window)
    gains_B = np.linspace(-1, 2, len(batch)).astype(np.float32)
    for _ in range(2):  # nothing is left behind
        scores_BV = np.zeros((len(batch), CONFIG.num_items + 1), dtype=np.float32)
        lookup.add_to(scores_BV, recent_BW, gains_B)
        for scores_V, history, gain in zip(scores_BV, batch, gains_B, strict=True):
            expected_V = gain * np.log1p(evidence(MEMORY, CONFIG.num_items, history).numpy())
            assert np.allclose(scores_V, expected_V, rtol=1e-5)


def test_evidence_too_small_to_be_told_from_none_adds_nothing() -> None:
    assert MEMORY is not None
    tiny = TransitionMemory(
        config=MEMORY.config,
        offsets=MEMORY.offsets,
        items=MEMORY.items,
        weights=torch.full_like(MEMORY.weights, 1e-45),
    )
    lookup = MemoryLookup(tiny)
    recent_BW: Ids = np.array([[5, 5, 5]])
    scores_BV = np.zeros((1, CONFIG.num_items + 1), dtype=np.float32)
    lookup.add_to(scores_BV, recent_BW, np.ones(1, dtype=np.float32))
    assert np.allclose(scores_BV, 0, atol=1e-40)
    (added,) = lookup.additions(recent_BW, np.ones(1, dtype=np.float32))
    assert (np.diff(added.rows_R) > 0).all()
    assert added.entries == 3 * int(MEMORY.offsets[6] - MEMORY.offsets[5])


@pytest.mark.parametrize("width", [8, 12])
def test_the_packed_product_equals_torchs(width: int) -> None:
    table, bias_V = SUPERNET.item_table.detach().slice(width), SUPERNET.item_bias.detach()
    product = make_product(table, bias_V, packed=True)
    assert isinstance(product, OnnxProduct)
    plain = make_product(table, bias_V, packed=False)
    assert isinstance(plain, TorchProduct)
    for batch in (1, 2, 9):
        query_BE = np.random.default_rng(batch).standard_normal((batch, width), dtype=np.float32)
        scores_BV = product(query_BE)
        assert np.allclose(scores_BV, plain(query_BE), atol=1e-5)
        scores_BV[:] = 0.0  # the caller's own
        assert product(query_BE).any()


def test_a_table_in_blocks_is_multiplied_block_by_block() -> None:
    blocked = random_supernet(small_config(table=PREFIXES))
    table, bias_V = blocked.item_table.detach(), blocked.item_bias.detach()
    assert isinstance(make_product(table, bias_V, packed=True), TorchProduct)


@pytest.mark.parametrize("answer", ["refuses", "differs"])
def test_where_onnx_runtime_cannot_be_trusted_torch_multiplies(
    answer: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def wrong(product: OnnxProduct, query_BE: Floats) -> Floats:
        if answer == "refuses":
            raise RuntimeError("no such operation")
        return np.zeros((len(query_BE), CONFIG.num_items + 1), dtype=np.float32)

    monkeypatch.setattr(OnnxProduct, "__call__", wrong)
    with caplog.at_level(logging.WARNING):
        product = make_product(
            SUPERNET.item_table.detach(), SUPERNET.item_bias.detach(), packed=True
        )
    assert isinstance(product, TorchProduct)
    assert answer[:6] in caplog.text.replace("refused", "refuses")

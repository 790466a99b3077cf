"""Heads and channels that write nothing are left out, and nobody can tell but by the cost."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from models.backbone.transformer.layers import TransformerLayers
from models.body import TorchBody
from models.config import SupernetConfig
from models.cost import encoder_flops
from models.network import NetworkWeights, encode_all
from models.onnx_body import OnnxBody, checked_body
from models.ranker import stack
from models.submodel import extract
from models.supernet import Supernet
from tests.models.builders import random_histories, random_supernet

CONFIG = SupernetConfig(
    num_items=30,
    max_length=12,
    depths=(1, 3),
    widths=(16, 32),
    emb_widths=(8,),
    num_heads=4,
    ffn_multiplier=2,
    memory=None,
)


def thinned(seed: int, share: float) -> Supernet:
    """Heads and channels drawn at random write nothing; all of them in some layers."""
    supernet = random_supernet(CONFIG, seed)
    draws = torch.Generator().manual_seed(seed)
    for name, parameter in supernet.named_parameters():
        if name.endswith(("out_weight", "ffn_out_weight")) and "blocks" in name:
            dead = torch.rand(parameter.shape[1], generator=draws) < share
            parameter[:, dead] = 0.0
    return supernet


def sizes(weights: NetworkWeights) -> list[tuple[int, int]]:
    assert isinstance(weights.layers, TransformerLayers)
    return [(one.kernel.attended, one.kernel.inner) for one in weights.layers.blocks]


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**20), st.sampled_from([0.2, 0.6, 1.0]))
def test_left_out_equals_sliced(seed: int, share: float) -> None:
    supernet = thinned(seed, share)
    histories = random_histories(CONFIG, 5, seed)
    ids_BL, lengths_B = stack(histories, CONFIG.max_length)
    rows, newest = torch.arange(len(histories)), torch.from_numpy(lengths_B) - 1
    for submodel in CONFIG.submodels:
        sliced, extracted = supernet.slice(submodel), extract(supernet, submodel)
        expected_BE = encode_all(sliced, torch.from_numpy(ids_BL))[rows, newest].numpy()
        embedded_BLE = sliced.table.embed(torch.from_numpy(ids_BL)).numpy()
        assert sliced.positions_LE is not None
        embedded_BLE = embedded_BLE + sliced.positions_LE.numpy()[: ids_BL.shape[1]]
        scale = max(1.0, float(np.abs(expected_BE).max()))
        for body in (TorchBody(sliced), TorchBody(extracted), OnnxBody(extracted)):
            difference = np.abs(body(embedded_BLE, lengths_B) - expected_BE).max()
            assert float(difference) <= 1e-5 * scale
        assert isinstance(checked_body(extracted), OnnxBody)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_what_is_left_is_what_is_charged(share: float) -> None:
    supernet = thinned(3, share)
    for submodel in CONFIG.submodels:
        weights = extract(supernet, submodel)
        assert all(
            attended >= submodel.width // 4 and inner >= 1 for attended, inner in sizes(weights)
        )
        if share == 1.0:
            assert set(sizes(weights)) == {(submodel.width // 4, 1)}
        full = encoder_flops(CONFIG, submodel, 8)
        charged = encoder_flops(CONFIG, submodel, 8, weights.layers)
        assert charged == full if share == 0 else charged < full
        embedded_BLE = np.ones((1, 8, submodel.emb_width), dtype=np.float32)
        body = TorchBody(weights)
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            body(embedded_BLE, np.array([8]))
        assert int(counter.get_total_flops()) == charged

"""The masked forward is the slice, for every submodel and every history of a mixed batch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from models.config import SupernetConfig
from models.network import encode_all, score_all
from models.ranker import stack
from tests.models.builders import random_histories, random_supernet, small_config
from training.canet.choice import Membership, by_cost, draw
from training.canet.masked import Gates, masked_encode

GRIDS = [
    small_config(memory=False),
    small_config(memory=False, layer_sharing="cross_block"),
    # As published, and orders that a set would not keep.
    SupernetConfig(
        num_items=30,
        max_length=20,
        depths=(2, 4, 6, 8),
        widths=(64, 96, 128),
        emb_widths=(64, 96, 128),
        num_heads=4,
        memory=None,
    ),
    replace(small_config(memory=False), widths=(32, 48, 64), emb_widths=(64, 128, 256)),
]


@pytest.mark.parametrize(("config", "seed"), [*((grid, 0) for grid in GRIDS), (GRIDS[0], 1)])
def test_masked_equals_sliced_over_the_whole_grid(config: SupernetConfig, seed: int) -> None:
    """Norms, biases and residual gains are random; neighbours in the batch go other ways."""
    spread = 0.3 if config.depth > 4 else 0.7
    supernet = random_supernet(config, seed, spread)
    order = by_cost(config)
    ids, lengths = stack(random_histories(config, len(order), seed), config.max_length)
    ids_BL = torch.from_numpy(ids)
    gates = Gates.of(config, Membership.of(config).marginals(torch.eye(len(order))))
    masked_BLE = masked_encode(supernet, gates, ids_BL)
    for row, submodel in enumerate(order):
        weights = supernet.slice(submodel)
        length = int(lengths[row])
        sliced_LE = encode_all(weights, ids_BL[row : row + 1])[0, :length]
        masked_LE = masked_BLE[row, :length]
        scale = max(1.0, float(sliced_LE.abs().max()))
        assert not masked_LE[:, submodel.emb_width :].any(), submodel.name
        error = (masked_LE[:, : submodel.emb_width] - sliced_LE).abs().max()
        assert float(error) <= 1e-5 * scale, submodel.name
        scores_LV = score_all(supernet.slice(config.largest), masked_LE)[:, 1:]
        expected_LV = score_all(weights, sliced_LE)[:, 1:]
        scale = max(1.0, float(expected_LV.abs().max()))
        assert float((scores_LV - expected_LV).abs().max()) <= 1e-5 * scale, submodel.name


@pytest.mark.parametrize("config", GRIDS[:2])
def test_gradients_of_the_weights_are_the_slices(config: SupernetConfig) -> None:
    ids_BL = torch.from_numpy(stack(random_histories(config, 1, 5), config.max_length)[0])
    membership = Membership.of(config)
    for place in (0, 4, 9, len(by_cost(config)) - 1):
        submodel = by_cost(config)[place]
        sliced, masked = (random_supernet(config).requires_grad_() for _ in range(2))
        torch.autograd.backward(encode_all(sliced.slice(submodel), ids_BL).square().sum())
        choice_BS = torch.eye(len(by_cost(config)))[place : place + 1]
        gates = Gates.of(config, membership.marginals(choice_BS))
        torch.autograd.backward(masked_encode(masked, gates, ids_BL).square().sum())
        gradients = dict(masked.named_parameters())
        for name, parameter in sliced.named_parameters():
            if parameter.grad is None:
                continue
            found = gradients[name].grad
            assert found is not None, name
            scale = max(1.0, float(parameter.grad.abs().max()))
            assert torch.allclose(found, parameter.grad, atol=1e-4 * scale, rtol=1e-3), name


def test_every_axis_of_the_choice_gets_a_gradient() -> None:
    config = GRIDS[0]
    supernet = random_supernet(config)
    ids_BL = torch.from_numpy(stack(random_histories(config, 6, 2), config.max_length)[0])
    logits_BS = torch.zeros(6, len(by_cost(config)), requires_grad=True)
    choice_BS = draw(logits_BS, 1.0, torch.Generator().manual_seed(0))
    marginals = Membership.of(config).marginals(choice_BS)
    for axis in (marginals.emb, marginals.width, marginals.depth):
        axis.retain_grad()
    encoded_BLE = masked_encode(supernet, Gates.of(config, marginals), ids_BL)
    torch.autograd.backward(encoded_BLE.square().sum())
    for axis in (marginals.emb, marginals.width, marginals.depth):
        assert axis.grad is not None
        assert axis.grad.abs().sum() > 0
    assert logits_BS.grad is not None
    assert logits_BS.grad.abs().sum() > 0

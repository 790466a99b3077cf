"""Layers that share a kernel: which do, that it is one, and what it saves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.backbone.nextitnet.layers import NextItNetLayers
from models.backbone.registry import BACKBONES
from models.backbone.transformer.layers import TransformerLayers
from models.config import BACKBONES as NAMES
from models.config import SupernetConfig
from models.cost import encoder_flops, parameter_counts, weight_bytes
from models.layer_plan import SHARING, layer_plan
from models.network import NetworkWeights
from models.onnx_body import build_graph
from models.ranker import load_ranker
from models.submodel import extract
from models.supernet import Supernet
from tests.models.builders import COMBINATIONS, random_router, random_supernet, small_config
from training.fit.config import TrainConfig
from training.fit.sandwich import SandwichStep
from training.fit.windows import Batch

BOTH = sorted(BACKBONES)


def kernels(weights: NetworkWeights) -> list[Any]:
    layers = weights.layers
    if isinstance(layers, TransformerLayers):
        return [block.kernel for block in layers.blocks]
    assert isinstance(layers, NextItNetLayers)
    return [one.kernel for one in layers.convolutions]


def places(found: list[Any]) -> tuple[int, ...]:
    """Each kernel's number, by first use."""
    seen = list(dict.fromkeys(map(id, found)))
    return tuple(seen.index(id(one)) for one in found)


def test_every_backbone_that_a_configuration_may_name_exists() -> None:
    assert set(NAMES) == set(BACKBONES)


def test_the_published_schemes_on_four_blocks() -> None:
    assert layer_plan("none", 8) == (0, 1, 2, 3, 4, 5, 6, 7)
    assert layer_plan("adjacent_layer", 8) == (0, 0, 1, 1, 2, 2, 3, 3)
    assert layer_plan("adjacent_block", 8) == (0, 1, 0, 1, 2, 3, 2, 3)
    assert layer_plan("cross_block", 8) == (0, 1, 0, 1, 0, 1, 0, 1)
    assert layer_plan("cross_layer", 8) == (0,) * 8


@given(sharing=st.sampled_from(SHARING), layers=st.integers(0, 40), more=st.integers(0, 40))
def test_fewer_layers_have_the_beginning_of_the_plan(sharing: str, layers: int, more: int) -> None:
    plan = layer_plan(sharing, layers + more)
    assert plan[:layers] == layer_plan(sharing, layers)
    # Numbered by first use: no kernel is without a layer.
    assert list(dict.fromkeys(plan)) == list(range(len(set(plan))))


@pytest.mark.parametrize(("backbone", "sharing"), COMBINATIONS)
def test_a_shared_kernel_is_one_in_slices_copies_and_graphs(backbone: str, sharing: str) -> None:
    config = small_config(backbone=backbone, layer_sharing=sharing)
    supernet = random_supernet(config)
    for submodel in config.submodels:
        layers = submodel.depth * (2 if backbone == "nextitnet" else 1)
        plan = layer_plan(sharing, layers)
        extracted = extract(supernet, submodel)
        assert places(kernels(supernet.slice(submodel))) == places(kernels(extracted)) == plan
        counts = parameter_counts(config, submodel)
        own = {tensor.data_ptr(): tensor for tensor in extracted.layers.tensors()}
        assert len(own) == len(extracted.layers.tensors())
        assert extracted.body_bytes() == 4 * counts["body"]
        assert weight_bytes(config, submodel) == 4 * counts["table"] + extracted.body_bytes()
    full = extract(supernet, config.largest)
    graph = build_graph(full, full.layers.newest()).graph
    weights = [onnx.numpy_helper.to_array(one) for one in graph.initializer]
    matrices = [one for one in weights if one.ndim == 2]
    for index, one in enumerate(matrices):
        assert not any(
            one.shape == other.shape and np.array_equal(one, other) for other in matrices[:index]
        )
    state = sum(tensor.numel() for tensor in supernet.blocks.state_dict().values())
    assert state == BACKBONES[backbone].parameters(config, config.largest)


@pytest.mark.parametrize("backbone", BOTH)
def test_sharing_saves_bytes_and_no_work(backbone: str) -> None:
    config = replace(small_config(backbone=backbone), depths=(1, 8))
    found = {}
    for sharing in SHARING:
        shared = replace(config, layer_sharing=sharing)
        found[sharing] = parameter_counts(shared, shared.largest)["body"]
        for length in (8, 20):
            assert encoder_flops(shared, shared.largest, length) == encoder_flops(
                config, config.largest, length
            )
    assert found["none"] > found["adjacent_layer"] == found["adjacent_block"]
    assert found["adjacent_block"] > found["cross_block"] > found["cross_layer"]


def steps(config: SupernetConfig, count: int) -> Supernet:
    """A supernet after `count` steps of training."""
    supernet = Supernet(config)
    supernet.initialise(torch.Generator().manual_seed(0))
    rng = np.random.default_rng(0)
    plan = TrainConfig(random_submodels=1, warmup_steps=1, learning_rate=1e-2)
    step = SandwichStep(supernet, plan, None, torch.ones(config.num_items + 1))
    ids = torch.from_numpy(rng.integers(1, config.num_items + 1, (4, 11)))
    for _ in range(count):
        step(Batch(users_B=torch.arange(4), item_ids_BL=ids[:, :-1], targets_BL=ids[:, 1:]), 0, rng)
    return supernet


@pytest.mark.parametrize(
    ("backbone", "sharing"), [(one, two) for one, two in COMBINATIONS if two != "none"]
)
def test_training_and_loading_keep_one_kernel_and_norms_apart(backbone: str, sharing: str) -> None:
    config = small_config(backbone=backbone, layer_sharing=sharing, memory=False)
    fresh, trained = steps(config, 0), steps(config, 2)
    before, after = fresh.state_dict(), trained.state_dict()
    moved = {name for name in after if not torch.equal(before[name], after[name])}
    assert {name for name in after if name.startswith("blocks.")} <= moved
    # Every norm has gone its own way; the kernels of the plan are still the same tensors.
    norms = [tensor for name, tensor in after.items() if "blocks." in name and "norm" in name]
    for index, one in enumerate(norms):
        assert not any(torch.equal(one, other) for other in norms[:index])
    plan = config.layer_plan
    assert places(kernels(trained.slice(config.largest))) == plan
    tensors = {f"supernet.{name}": tensor for name, tensor in after.items()}
    router = random_router(1)
    tensors |= {f"router.{name}": tensor for name, tensor in router.state_dict().items()}
    ranker = load_ranker(config, tensors, [config.largest], router_hidden=8)
    assert places(kernels(ranker._weights[0])) == plan
    assert ranker.body_bytes == 4 * parameter_counts(config, config.largest)["body"]


def test_the_gradient_of_a_shared_kernel_is_the_sum_over_its_layers() -> None:
    shared = small_config(layer_sharing="cross_layer")
    apart = replace(shared, layer_sharing="none")
    one, many = random_supernet(shared).requires_grad_(), Supernet(apart)
    state = one.state_dict()
    for name in many.state_dict():
        if name not in state:
            state[name] = state[f"blocks.0.{name.split('.', 2)[2]}"]
    many.load_state_dict(state)
    hidden = torch.randn(2, 5, shared.width, generator=torch.Generator().manual_seed(1))
    for supernet in (one, many):
        encoded = supernet.slice(shared.largest).layers.encode(hidden)
        torch.autograd.backward(encoded.square().sum())
    gradients = dict(many.named_parameters())
    for name, parameter in one.blocks.named_parameters():
        if name.startswith("0.") and "norm" not in name and "gain" not in name:
            parts = [gradients[f"blocks.{layer}.{name[2:]}"].grad for layer in range(3)]
            total = torch.stack([part for part in parts if part is not None]).sum(0)
            assert parameter.grad is not None
            assert torch.allclose(
                parameter.grad, total, rtol=1e-4, atol=1e-4 * float(total.abs().max())
            )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"backbone": "lstm"}, "backbone 'lstm' is unknown; known are transformer, nextitnet"),
        ({"layer_sharing": "all"}, "layer sharing 'all' is unknown; known are none, adjacent"),
        ({"dilations": ()}, "give at least one"),
        ({"dilations": (0,)}, "dilation is 0; it must be an integer of at least 1"),
    ],
)
def test_a_wrong_architecture_is_refused_with_what_is_known(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        replace(small_config(), **values)


def test_widths_of_convolutions_need_no_heads() -> None:
    config = replace(small_config(backbone="nextitnet"), widths=(5, 7))
    assert extract(random_supernet(config), config.largest).norm_bias_D.shape == (7,)


@pytest.mark.parametrize("backbone", BOTH)
def test_a_configuration_reads_back_and_an_older_one_is_a_plain_transformer(backbone: str) -> None:
    config = small_config(backbone=backbone, layer_sharing="cross_block")
    assert SupernetConfig.from_json(config.to_json()) == config
    older = config.to_json()
    for key in ("backbone", "dilations", "layer_sharing"):
        del older[key]
    assert SupernetConfig.from_json(older) == small_config()

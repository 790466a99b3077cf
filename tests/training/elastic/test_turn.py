"""Turned columns are the same network, with most of what rows differ in in front."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from models.network import encode_all, score_all
from models.supernet import Supernet
from tests.models.builders import random_supernet, small_config
from training.elastic.config import ElasticConfig, ElasticPlan
from training.elastic.step import ElasticStep
from training.elastic.turn import principal_turn, turned
from training.fit.config import TrainConfig
from training.fit.windows import Batch
from training.sparse.config import SparseConfig

CONFIG = small_config(memory=False)
IDS = torch.randint(1, CONFIG.rows, (4, 9), generator=torch.Generator().manual_seed(3))
WEIGHT_V = torch.arange(CONFIG.rows).flip(0).float().sqrt()


def step_of(blocks: int | None = None) -> ElasticStep:
    plan = ElasticPlan(groups=5, widths=(2, 4), blocks=blocks)
    elastic = ElasticConfig.of(plan, num_items=CONFIG.num_items, emb_widths=CONFIG.emb_widths)
    supernet = random_supernet(CONFIG).requires_grad_(True)
    train = TrainConfig(dropout=0.0, random_submodels=1, warmup_steps=1)
    return ElasticStep(elastic, supernet, train, None, WEIGHT_V.square())


def one_step(step: ElasticStep) -> None:
    batch = Batch(item_ids_BL=IDS, targets_BL=torch.roll(IDS, 1, 1), users_B=torch.arange(4))
    step(batch, 0, np.random.default_rng(0))


@torch.no_grad()
def all_scores(supernet: Supernet) -> list[Tensor]:
    networks = [supernet.slice(submodel) for submodel in CONFIG.submodels]
    return [score_all(network, encode_all(network, IDS)[:, -1]) for network in networks]


def spread(table_VE: Tensor) -> Tensor:
    return (WEIGHT_V[:, None] * table_VE.detach().square()).sum(0)


@pytest.mark.parametrize("backbone", ["transformer", "nextitnet"])
def test_every_submodel_stays_the_network_it_was(backbone: str) -> None:
    config = replace(CONFIG, backbone=backbone)
    supernet = random_supernet(config)
    networks = [supernet.slice(submodel) for submodel in config.submodels]
    with torch.no_grad():
        before = [score_all(one, encode_all(one, IDS)[:, -1]) for one in networks]
        turn_EE = principal_turn(supernet.table, WEIGHT_V, config.emb_widths)
        named = dict(supernet.named_parameters())
        for name, tensor in turned(named, turn_EE).items():
            named[name].copy_(tensor)
        after = [score_all(one, encode_all(one, IDS)[:, -1]) for one in networks]
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_the_leading_columns_hold_the_most_there_is_within_each_embedding_width() -> None:
    table_VE = random_supernet(CONFIG).table.detach()
    turn_EE = principal_turn(table_VE, WEIGHT_V, CONFIG.emb_widths)
    torch.testing.assert_close(turn_EE @ turn_EE.T, torch.eye(12), atol=1e-5, rtol=0)
    assert not turn_EE[:8, 8:].any()
    assert not turn_EE[8:, :8].any()
    held = spread(table_VE @ turn_EE)
    for start, stop in ((0, 8), (8, 12)):
        assert (held[start:stop].diff() <= 1e-4).all()
        best = torch.linalg.svdvals(table_VE[:, start:stop] * WEIGHT_V[:, None].sqrt()).square()
        torch.testing.assert_close(held[start:stop], best, atol=1e-3, rtol=1e-4)
    again = principal_turn(table_VE @ turn_EE, WEIGHT_V, CONFIG.emb_widths)
    torch.testing.assert_close(again, torch.eye(12), atol=1e-3, rtol=0)


def test_narrow_networks_are_cut_from_turned_columns_and_the_weights_turned_at_the_end() -> None:
    step = step_of()
    one_step(step)
    step.begin_epoch(1)
    turn_EE = step.calibration.turn_EE.clone()
    whole, before = all_scores(step.supernet), step.weights()
    with torch.no_grad():
        narrow = [
            score_all(network, encode_all(network, IDS)[:, -1])
            for network in step._networks(np.random.default_rng(1))
        ]
    step.finish(before)
    assert torch.equal(step.calibration.turn_EE, torch.eye(12))
    assert (spread(before["table"] @ turn_EE) - spread(step.supernet.table)).abs().max() < 1e-3
    for one, other in zip(whole, all_scores(step.supernet), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        after = [
            score_all(network, encode_all(network, IDS)[:, -1])
            for network in step._networks(np.random.default_rng(1))
        ]
    assert len(narrow) == 4
    for one, other in zip(narrow, after, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    one_step(step)
    assert torch.equal(step.supernet.table[0], torch.zeros(12))


def test_a_continued_run_and_the_best_weights_know_their_turn() -> None:
    step, other = step_of(), step_of()
    one_step(step)
    step.begin_epoch(1)
    turn_EE = step.calibration.turn_EE.clone()
    other.load_state(step.state())
    assert torch.equal(other.calibration.turn_EE, turn_EE)
    best = step.weights()
    one_step(step)
    step.begin_epoch(2)
    assert not torch.equal(step.calibration.turn_EE, turn_EE)
    step.adopt(best)
    assert torch.equal(step.calibration.turn_EE, turn_EE)


@pytest.mark.parametrize("case", ["first epoch", "blocks", "sparse"])
def test_where_columns_stay(case: str) -> None:
    step = step_of(blocks=6 if case == "blocks" else None)
    if case == "sparse":
        step.thin(SparseConfig(density=0.5, granularity="element"), given=False)
    one_step(step)
    before = step.weights()
    step.begin_epoch(0 if case == "first epoch" else 1)
    for name, tensor in step.weights().items():
        assert torch.equal(before[name], tensor), name

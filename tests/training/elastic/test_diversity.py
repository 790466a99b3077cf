"""The diversity term: bounded, 0 for distinct blocks, and descending it makes blocks distinct."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.builders import random_supernet, small_config
from training.elastic.config import ElasticConfig, ElasticPlan
from training.elastic.diversity import add_diversity, redundancy
from training.elastic.step import ElasticStep
from training.fit.config import TrainConfig
from training.fit.windows import Batch


@settings(deadline=None, max_examples=50)
@given(
    st.integers(0, 2**31),
    st.integers(2, 40),
    st.sampled_from((2, 3, 6)),
    st.sampled_from((0.0, 1e-8, 1.0, 1e6)),
)
def test_it_is_a_share_of_1(seed: int, rows: int, blocks: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows_ME = scale * torch.randn(rows, 12, generator=generator)
    found = redundancy(rows_ME, blocks)
    assert 0 <= float(found) <= 1 + 1e-5
    shifted = redundancy(2 * rows_ME + scale, blocks)
    assert float(shifted) == pytest.approx(float(found), abs=1e-3)


def test_it_is_1_for_repeated_columns_and_0_for_distinct_blocks() -> None:
    one_M = torch.randn(50, generator=torch.Generator().manual_seed(0))
    assert float(redundancy(one_M[:, None].repeat(1, 4), 2)) == pytest.approx(1)
    # Columns of one block may repeat one another: that is the block's own affair.
    square_ME = torch.tensor([[1.0, 1, 1, 1], [1, 1, -1, -1], [-1, -1, 1, 1], [-1, -1, -1, -1]])
    assert float(redundancy(square_ME, 2)) == pytest.approx(0, abs=1e-6)


def test_descending_it_decorrelates_blocks() -> None:
    generator = torch.Generator().manual_seed(1)
    shared_VE = torch.randn(300, 3, generator=generator) @ torch.randn(3, 12, generator=generator)
    table_VE = shared_VE + 0.3 * torch.randn(300, 12, generator=generator)
    table_VE.requires_grad_(True)
    optimizer = torch.optim.Adam([table_VE], lr=0.05)
    before = float(redundancy(table_VE[1:], 4).detach())
    for _ in range(60):
        optimizer.zero_grad()
        add_diversity(table_VE, 4, 1.0, generator)
        assert table_VE.grad is not None
        assert not table_VE.grad[0].any(), "padding has no part in it"
        optimizer.step()
    after = float(redundancy(table_VE[1:], 4).detach())
    assert before > 0.1
    assert after < before / 5


def test_of_a_large_catalog_some_rows_are_taken() -> None:
    table_VE = torch.randn(5_000, 12, generator=torch.Generator().manual_seed(2))
    table_VE.requires_grad_(True)
    add_diversity(table_VE, 4, 1.0, torch.Generator().manual_seed(3))
    assert table_VE.grad is not None
    touched = int(table_VE.grad.any(1).sum())
    assert 800 < touched <= 1_024


def stepped(plan: ElasticPlan) -> dict[str, torch.Tensor]:
    """The weights after a step."""
    config = small_config(memory=False)
    elastic = ElasticConfig.of(plan, num_items=config.num_items, emb_widths=config.emb_widths)
    train = TrainConfig(dropout=0.0, random_submodels=1, warmup_steps=1)
    supernet = random_supernet(config).requires_grad_(True)
    step = ElasticStep(elastic, supernet, train, None, torch.ones(config.rows))
    torch.manual_seed(0)
    ids = torch.randint(1, config.num_items + 1, (8, 10))
    batch = Batch(item_ids_BL=ids, targets_BL=torch.roll(ids, 1, 1), users_B=torch.arange(8))
    losses = step(batch, 0, np.random.default_rng(0))
    assert all(np.isfinite(losses))
    return step.weights()


def test_a_step_keeps_any_blocks_and_the_weight_0_leaves_the_term_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = ElasticPlan(groups=5, blocks=6)
    off = stepped(ElasticPlan(groups=5, blocks=6, diversity=0.0))
    on = stepped(plan)
    assert not torch.equal(off["table"], on["table"])
    for name in off:
        if name != "table":
            assert torch.equal(off[name], on[name]), name
    monkeypatch.setattr("training.elastic.step.add_diversity", lambda *_: None)
    without = stepped(plan)
    assert all(torch.equal(off[name], without[name]) for name in off)

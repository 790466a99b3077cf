"""Marginals, targets and losses against values computed by hand."""

from __future__ import annotations

import math

import pytest
import torch

from models.config import SupernetConfig
from models.network import encode_all
from models.ranker import stack
from tests.models.builders import random_histories, random_supernet, small_config
from training.canet.choice import Axes, Membership, by_cost, draw
from training.canet.config import CanetConfig
from training.canet.losses import easy_histories, guide_loss, soft_targets, uniform_loss

# Two layers by two widths, one table width: d1-w8, d1-w16, d2-w8, d2-w16 in some order.
SQUARE = SupernetConfig(
    num_items=9, max_length=5, depths=(1, 2), widths=(8, 16), emb_widths=(8,), memory=None
)
EASY = torch.tensor([False, True])


def test_marginals_by_hand() -> None:
    shares = {"d1-w8-e8": 0.1, "d1-w16-e8": 0.2, "d2-w8-e8": 0.3, "d2-w16-e8": 0.4}
    logits_BS = torch.tensor([[shares[s.name] for s in by_cost(SQUARE)]]).log() + 7.0
    found = Membership.of(SQUARE).log_marginals(logits_BS)
    assert found.depth.exp()[0].tolist() == pytest.approx([0.3, 0.7])
    assert found.width.exp()[0].tolist() == pytest.approx([0.4, 0.6])
    assert found.emb.exp()[0].tolist() == pytest.approx([1.0])
    # The sum of logits would weigh the same groups by products: 0.02 against 0.12.
    assert found.depth.exp()[0, 0] != pytest.approx(0.02 / 0.14)


def test_marginals_of_a_choice_name_its_submodel() -> None:
    config = small_config(memory=False)
    order = by_cost(config)
    found = Membership.of(config).marginals(torch.eye(len(order)))
    for place, submodel in enumerate(order):
        assert config.emb_widths[int(found.emb[place].argmax())] == submodel.emb_width
        assert config.widths[int(found.width[place].argmax())] == submodel.width
        assert config.depths[int(found.depth[place].argmax())] == submodel.depth
    assert order[0] == config.smallest
    assert order[-1] == config.largest


def test_targets_by_hand() -> None:
    widths = soft_targets(3, 4, EASY)
    assert torch.allclose(widths[0], torch.tensor([1.0, 4.0, 16.0]) / 21)
    assert torch.allclose(widths[1], torch.tensor([16.0, 4.0, 1.0]) / 21)
    depths = soft_targets(4, 2, EASY)
    assert torch.allclose(depths[0], torch.tensor([1.0, 2.0, 4.0, 8.0]) / 15)
    assert torch.allclose(depths[1], torch.tensor([8.0, 4.0, 2.0, 1.0]) / 15)


def test_guide_loss_of_uniform_routing_is_the_logs_of_the_axes() -> None:
    logits_BS = torch.zeros(2, 4)
    log_marginals = Membership.of(SQUARE).log_marginals(logits_BS)
    assert float(guide_loss(log_marginals, EASY)) == pytest.approx(2 * math.log(2))
    assert float(uniform_loss(logits_BS)) == pytest.approx(math.log(4))


def test_guide_loss_by_hand() -> None:
    log_marginals = Axes(
        emb=torch.zeros(1, 1),
        width=torch.tensor([[0.25, 0.75]]).log(),
        depth=torch.tensor([[0.5, 0.5]]).log(),
    )
    expected = -(0.2 * math.log(0.25) + 0.8 * math.log(0.75)) + math.log(2)
    assert float(guide_loss(log_marginals, EASY[:1])) == pytest.approx(expected)


def test_uniform_loss_is_least_when_routing_is_uniform() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        assert uniform_loss(torch.randn(3, 7, generator=generator)) > math.log(7)


def test_draws_are_one_hot_and_follow_the_softmax() -> None:
    shares = torch.tensor([0.5, 0.3, 0.2])
    logits_BS = (shares.log() + 3).expand(20_000, 3)
    choice_BS = draw(logits_BS, 0.3, torch.Generator().manual_seed(1))
    assert ((choice_BS == 0) | (choice_BS == 1)).all()
    assert torch.equal(choice_BS.sum(1), torch.ones(len(choice_BS)))
    assert torch.allclose(choice_BS.mean(0), shares, atol=0.02)
    again = draw(logits_BS, 0.3, torch.Generator().manual_seed(1))
    assert torch.equal(choice_BS, again)


def test_probe_is_the_true_slice_without_its_own_input() -> None:
    config = small_config(memory=False)
    smallest = random_supernet(config).slice(config.smallest)
    histories = random_histories(config, 30, 4)
    ids_BL = torch.from_numpy(stack(histories, config.max_length)[0])
    targets_BL = torch.zeros_like(ids_BL)
    generator = torch.Generator().manual_seed(3)
    expected = []
    for row, history in enumerate(histories):
        target = int(torch.randint(1, config.num_items + 1, (1,), generator=generator))
        targets_BL[row, len(history) - 1] = target
        query_E = encode_all(smallest, torch.tensor([history]))[0, -1]
        scores_V = smallest.table.dense() @ query_E + smallest.item_bias_V
        rivals = set(range(1, config.num_items + 1)) - set(history) - {target}
        better = sum(float(scores_V[rival]) > float(scores_V[target]) for rival in rivals)
        expected.append(1 + better <= 10)
    found = easy_histories(smallest, ids_BL, targets_BL, easy_rank=10)
    assert found.tolist() == expected
    assert 0 < sum(expected) < len(expected)


def test_temperature_falls_and_stays() -> None:
    config = CanetConfig(first_tau=1.0, last_tau=0.25, tau_epochs=2)
    assert [config.tau(epoch) for epoch in range(4)] == pytest.approx([1.0, 0.5, 0.25, 0.25])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"last_tau": 2.0}, "2.0; it must fall"), ({"guide_weight": -1.0}, "guide_weight is -1.0")],
)
def test_wrong_values_are_refused(wrong: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        CanetConfig(**wrong)  # type: ignore[arg-type]

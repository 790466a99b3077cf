"""Two softmaxes as a shift of scores: torch's adaptive softmax says the same."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from models.config import SupernetConfig
from models.network import score_all
from models.supernet import Supernet
from models.table.layout import TableLayout
from models.table.tokens import first_tokens
from tests.models.builders import PREFIXES, PROJECTED, layout, random_supernet, small_config

CONFIG = small_config(table=layout((8, 12), (20, 6), (41, 3), projected=True), two_level=True)


def adaptive(supernet: Supernet) -> nn.AdaptiveLogSoftmaxWithLoss:
    """torch's module with the supernet's weights; its classes are the items, without padding."""
    layout, width = supernet.config.layout, supernet.config.emb_width
    cutoffs = [block.stop - 1 for block in layout.blocks[:-1]]
    module = nn.AdaptiveLogSoftmaxWithLoss(
        width, supernet.config.num_items, cutoffs, div_value=2.0, head_bias=True
    )
    head, *tails = supernet.item_table.parts
    with torch.no_grad():
        module.head.weight.copy_(torch.cat([head.rows_NR[1:], supernet.block_tokens]))
        module.head.bias.copy_(
            torch.cat([supernet.item_bias[1 : head.stop], supernet.block_token_bias])
        )
        for own, part in zip(module.tail, tails, strict=True):
            assert isinstance(own, nn.Sequential)
            assert part.projection_RE is not None
            for layer, weight in zip(own, (part.projection_RE, part.rows_NR), strict=True):
                assert isinstance(layer, nn.Linear)
                layer.weight.copy_(weight)
    return module


def test_torchs_adaptive_softmax_gives_the_same_probabilities() -> None:
    supernet = random_supernet(CONFIG)
    supernet.item_bias[8:] = 0.0  # torch's tails have no biases
    query_BE = torch.randn(9, 12, generator=torch.Generator().manual_seed(1))
    scores_BV = score_all(supernet.slice(CONFIG.largest), query_BE)
    found = scores_BV[:, 1:].log_softmax(1)
    expected = adaptive(supernet).log_prob(query_BE)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    tokens = supernet.tokens
    assert tokens is not None
    for place, part in enumerate(supernet.item_table.parts[1:]):
        inside = scores_BV[:, part.start : part.stop].logsumexp(1)
        torch.testing.assert_close(inside, tokens.scores(query_BE)[:, place], rtol=1e-5, atol=1e-5)


def test_first_tokens_give_a_block_its_items_share_where_all_are_alike() -> None:
    supernet = random_supernet(CONFIG)
    tokens_TE, bias_T = first_tokens(supernet.item_table, supernet.item_bias)
    dense_VE = supernet.item_table.dense()
    for token_E, bias, part in zip(tokens_TE, bias_T, supernet.item_table.parts[1:], strict=True):
        rows = slice(part.start, part.stop)
        torch.testing.assert_close(token_E, dense_VE[rows].mean(0), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(bias, supernet.item_bias[rows].exp().sum().log())
    with torch.no_grad():
        supernet.block_tokens.copy_(tokens_TE)
        supernet.block_token_bias.copy_(bias_T)
    nothing_BE = torch.zeros(1, 12)
    two = score_all(supernet.slice(CONFIG.largest), nothing_BE)
    torch.testing.assert_close(two[0, 1:], supernet.item_bias[1:], rtol=1e-5, atol=1e-5)


def test_two_levels_survive_json_and_another_catalog() -> None:
    assert SupernetConfig.from_json(json.loads(json.dumps(CONFIG.to_json()))) == CONFIG
    assert CONFIG.to_json()["two_level"] is True
    assert "two_level" not in small_config(table=PROJECTED).to_json()
    assert [small_config().head, small_config(table=PROJECTED).head, CONFIG.head] == [
        "full",
        "flat_lowrank",
        "two_level",
    ]
    assert CONFIG.with_items(60).two_level
    assert CONFIG.with_items(5).head == "flat_lowrank"  # one block is left


@pytest.mark.parametrize(
    "table", [None, PREFIXES, layout((41, 4), projected=True)], ids=["whole", "prefixes", "one"]
)
def test_two_levels_need_blocks_of_falling_rank(table: TableLayout | None) -> None:
    with pytest.raises(ValueError, match="at least two blocks"):
        small_config(table=table, two_level=True)


def test_a_forged_flag_is_refused() -> None:
    with pytest.raises(ValueError, match="two_level is 1; give true or false"):
        SupernetConfig.from_json({**CONFIG.to_json(), "two_level": 1})

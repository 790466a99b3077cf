"""A narrowed table is a plain one: masked, packed and trained are the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.network import encode_all, score_all
from models.search.quantise import index_bytes, quantise
from models.table.layout import TableBlock, TableLayout
from models.table.resident import aligned, bias_bytes, resident_bytes
from models.table.table import whole_table
from tests.models.builders import random_supernet, small_config
from training.elastic.config import ElasticConfig, ElasticPlan
from training.elastic.draws import draw_choice, draw_orders
from training.elastic.narrow import Narrowing, merged
from training.elastic.step import ElasticStep
from training.fit.config import TrainConfig
from training.fit.windows import Batch

CONFIG = small_config()
ELASTIC = ElasticConfig.of(
    ElasticPlan(groups=5, widths=(2, 5, 8)), num_items=CONFIG.num_items, emb_widths=(8, 12)
)


IN_BLOCKS = ElasticConfig.of(
    ElasticPlan(groups=5, widths=(2, 4, 8), blocks=6),
    num_items=CONFIG.num_items,
    emb_widths=(8, 12),
)


def narrowing(seed: int = 0, elastic: ElasticConfig = ELASTIC) -> Narrowing:
    generator = torch.Generator().manual_seed(seed)
    numbers = 0.3 * torch.randn(2, 5, 4, generator=generator)
    numbers[:, :, -1] = 0.0
    how = Narrowing(elastic=elastic, scale_GW=numbers[0], bias_GW=numbers[1])
    if elastic.blocks is None:
        return how
    return how.ordered(draw_orders(5, elastic.blocks, np.random.default_rng(seed)))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**31), st.sampled_from((8, 12)), st.sampled_from((ELASTIC, IN_BLOCKS)))
def test_packed_and_masked_scores_are_one(seed: int, columns: int, elastic: ElasticConfig) -> None:
    supernet = random_supernet(CONFIG)
    choice_G = draw_choice(5, 4, np.random.default_rng(seed))
    how = narrowing(seed, elastic)
    table, bias_V = how(supernet.item_table, supernet.item_bias, choice_G)
    masked_VE = torch.zeros_like(supernet.table)
    for group, (start, stop) in enumerate(zip(elastic.starts, elastic.stops, strict=True)):
        place = int(choice_G[group])
        kept = list(how.elastic.columns(group, place) or range(elastic.widths[place]))
        scale = how.scale_GW[group, place].exp()
        masked_VE[start:stop, kept] = scale * supernet.table[start:stop, kept]
    layout = how.elastic.layout(choice_G)
    packed = merged(table, layout)
    assert [part.width for part in packed.parts] == [block.width for block in layout.blocks]
    assert [part.stop for part in packed.parts] == [block.stop for block in layout.blocks]
    torch.testing.assert_close(packed.dense(), masked_VE)
    query_BE = torch.randn(3, columns)
    torch.testing.assert_close(
        packed.slice(columns).scores(query_BE, bias_V),
        query_BE @ masked_VE[:, :columns].T + bias_V,
        atol=1e-5,
        rtol=1e-5,
    )
    ids = torch.randint(0, CONFIG.rows, (2, 7))
    torch.testing.assert_close(packed.embed(ids), masked_VE[ids])


def test_whole_rows_are_left_as_they_are() -> None:
    supernet = random_supernet(CONFIG)
    table, bias_V = narrowing()(supernet.item_table, supernet.item_bias, ELASTIC.whole)
    assert torch.equal(table.dense(), supernet.table)
    assert torch.equal(bias_V, supernet.item_bias)
    assert len(merged(table, ELASTIC.layout(ELASTIC.whole)).parts) == 1


def step_of(seed: int = 0, elastic: ElasticConfig = ELASTIC) -> ElasticStep:
    config = small_config(memory=False)
    supernet = random_supernet(config).requires_grad_(True)
    popularity_V = torch.ones(config.rows)
    plan = TrainConfig(dropout=0.0, random_submodels=1, warmup_steps=1, seed=seed)
    return ElasticStep(elastic, supernet, plan, None, popularity_V)


def test_a_step_trains_scales_and_biases_with_the_table() -> None:
    step = step_of()
    before = step.weights()
    ids = torch.randint(1, CONFIG.num_items + 1, (8, 10))
    batch = Batch(item_ids_BL=ids, targets_BL=torch.roll(ids, 1, 1), users_B=torch.arange(8))
    losses = step(batch, 0, np.random.default_rng(0))
    assert len(losses) == 4
    assert all(np.isfinite(losses))
    after = step.weights()
    for name in ("table", "item_bias", "elastic.scale", "elastic.bias", "input_weight"):
        assert not torch.equal(before[name], after[name]), name
    assert torch.equal(after["table"][0], torch.zeros(12))


@pytest.mark.parametrize("elastic", [ELASTIC, IN_BLOCKS], ids=["prefixes", "blocks"])
def test_gradients_of_a_narrowed_member_are_those_of_autograd(elastic: ElasticConfig) -> None:
    """The hand-made gradient of the head, through scale, split and bias, against torch's own."""
    from training.fit.head_loss import Member, all_columns, head_backward

    config = small_config(memory=False)
    ids = torch.randint(1, config.num_items + 1, (4, 6))
    targets_P = torch.randint(1, config.num_items + 1, (24,))
    found = []
    for by_hand in (True, False):
        torch.manual_seed(0)
        step = step_of(elastic=elastic)
        how = step.calibration.narrowing()
        if elastic.blocks is not None:
            # Of the first group a query of 8 columns meets none.
            orders = ((5, *range(5)), *draw_orders(4, 6, np.random.default_rng(0)))
            how = how.ordered(orders)
        smallest = step.supernet.slice(config.smallest)
        if elastic.blocks is None:
            step.begin_epoch(1)
        table = whole_table(step.supernet.table @ step.calibration.turn_EE)
        narrow = step._narrowed(smallest, table, how, np.array([0, 3, 1, 2, 0]))
        query_PE = encode_all(narrow, ids).reshape(24, -1)
        if by_hand:
            head_backward(
                step.supernet,
                [Member(weights=narrow, query_PE=query_PE)],
                targets_P,
                all_columns(config.num_items),
                None,
                distillation=0.0,
                chunk_cells=200,
            )
        else:
            scores = score_all(narrow, query_PE)
            torch.autograd.backward(torch.nn.functional.cross_entropy(scores, targets_P))
        found.append({name: p.grad for name, p in step.parameters.items()})
    for name in ("table", "item_bias", "elastic.scale", "elastic.bias", "positions"):
        one, other = found[0][name], found[1][name]
        assert one is not None, name
        assert other is not None, name
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_a_table_in_blocks_is_refused() -> None:
    config = small_config(memory=False)
    layout = ELASTIC.layout(np.zeros(5, dtype=np.int64))
    from dataclasses import replace

    from models.supernet import Supernet

    supernet = Supernet(replace(config, table=layout))
    with pytest.raises(ValueError, match="must be stored whole"):
        ElasticStep(ELASTIC, supernet, TrainConfig(), None, torch.ones(config.rows))


def test_bytes_count_every_block_its_alignment_and_the_biases() -> None:
    layout = ELASTIC.layout(np.array([3, 3, 0, 0, 0]))
    assert [(block.stop, block.width) for block in layout.blocks] == [(17, 12), (41, 2)]
    # 17 * 12 * 4 = 816 -> 832, 24 * 2 * 4 = 192, 41 * 4 = 164 -> 192, two entries of 16
    assert resident_bytes(layout, 2) == 832 + 192 + 192 + 32


def test_long_blocks_count_their_index_and_groups_do_not_grow_into_one() -> None:
    long = TableLayout((TableBlock(3_000, 6), TableBlock(153_000, 3)), projected=False)
    rows = aligned(4 * 3_000 * 6) + aligned(4 * 150_000 * 3)
    index = index_bytes(150_000, 3, 2)
    assert resident_bytes(long, 2) == rows + index + bias_bytes(153_000) + 32
    elastic = ElasticConfig.of(
        ElasticPlan(groups=6, widths=(2,)), num_items=239_999, emb_widths=(8,)
    )
    layout = elastic.layout(np.array([1, 0, 0, 0, 0, 0]))
    assert layout.sizes == (40_000, 80_000, 80_000, 40_000)
    assert [block.width for block in layout.blocks] == [8, 2, 2, 2]


@given(st.integers(1, 2_000), st.integers(1, 9))
@settings(deadline=None, max_examples=20)
def test_an_index_takes_what_it_says(rows: int, columns: int) -> None:
    table_VE = np.random.default_rng(rows).normal(size=(rows, columns)).astype(np.float32)
    widths = sorted({1, columns})
    found = quantise(table_VE, np.zeros(rows, dtype=np.float32), widths)
    assert found.num_bytes == index_bytes(rows, columns, len(widths))


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (ElasticPlan(groups=0), "0 elastic groups"),
        (ElasticPlan(groups=41), "1 to 40"),
        (ElasticPlan(groups=2, widths=(2, 16)), "width 16 is wider than the embedding's 12"),
        (ElasticPlan(groups=2, widths=(4, 2)), "ascending"),
        (ElasticPlan(groups=2, blocks=5), "5 elastic blocks do not divide .* 12 columns evenly"),
        (ElasticPlan(groups=2, blocks=1), "give one of 2, 3, 4, 6, 12"),
        (ElasticPlan(groups=2, blocks=4), "embedding width 8 cuts through a block: .* 3 wide"),
        (ElasticPlan(groups=2, blocks=6, widths=(2, 5)), "width 5 .* multiples of 2"),
    ],
)
def test_groups_and_widths_that_do_not_fit_are_refused(plan: ElasticPlan, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ElasticConfig.of(plan, num_items=40, emb_widths=(8, 12))


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf")])
def test_a_weight_of_the_diversity_term_is_not_negative(weight: float) -> None:
    with pytest.raises(ValueError, match=r"elastic diversity is .* at least 0"):
        ElasticPlan(blocks=6, diversity=weight)


def test_usual_widths_of_blocks_are_whole_blocks() -> None:
    found = ElasticConfig.of(ElasticPlan(blocks=16), num_items=1000, emb_widths=(32, 64))
    assert found.widths == (4, 8, 12, 16, 24, 32, 48, 64)
    paper = ElasticConfig.of(ElasticPlan(blocks=16), num_items=1000, emb_widths=(128,))
    assert paper.widths == (8, 16, 24, 32, 48, 64, 96, 128)


def test_a_run_with_other_blocks_is_another_run() -> None:
    def told(plan: ElasticPlan) -> dict[str, object]:
        return ElasticConfig.of(plan, num_items=1000, emb_widths=(32, 64)).to_json()

    prefixes, blocks = told(ElasticPlan()), told(ElasticPlan(blocks=16))
    assert set(prefixes) == {"stops", "widths"}, "a run from before goes on"
    assert told(ElasticPlan(blocks=8)) != blocks != told(ElasticPlan(blocks=16, diversity=0.0))


def test_usual_widths_end_with_the_whole_embedding() -> None:
    found = ElasticConfig.of(ElasticPlan(), num_items=1000, emb_widths=(20,))
    assert found.widths == (2, 4, 8, 12, 16, 20)
    assert len(found.stops) == 20
    assert found.stops[-1] == 1001
    assert set(np.diff(found.stops)) == {50}

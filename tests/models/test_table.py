"""A table in blocks reads, scores, slices and stores as its dense form says."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.config import SupernetConfig
from models.supernet import Supernet
from models.table.layout import TableBlock, TableLayout, dense_layout, runs
from models.table.lookup import RowLookup
from models.table.parameters import table_of, table_state
from models.table.rearrange import rearranged
from models.table.table import whole_table
from tests.models.builders import (
    COLUMNS,
    PREFIXES,
    PROJECTED,
    layout,
    random_supernet,
    small_config,
)
from tests.models.table_cases import layouts, random_table
from training.fit.scored_table import ScoredTable

WIDTH, ROWS = 6, 30
seeds = st.integers(0, 2**31)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=60)
@given(data=st.data(), columns=st.integers(1, WIDTH), seed=seeds)
def test_every_reading_is_that_of_the_dense_form(
    data: st.DataObject, columns: int, seed: int
) -> None:
    chosen = data.draw(layouts(ROWS, WIDTH))
    whole = random_table(chosen, WIDTH, seed)
    table = whole.slice(columns)
    dense_VE = whole.dense()[:, :columns]
    assert dense_VE.shape == (ROWS, columns)
    assert not dense_VE[0].any()
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, ROWS, (3, 4), generator=generator)
    query_BE = torch.randn(3, columns, generator=generator)
    bias_V = torch.randn(ROWS, generator=generator)
    expected_BV = query_BE @ dense_VE.T + bias_V
    close(table.embed(ids), dense_VE[ids])
    close(table.dense(), dense_VE)
    close(table.scores(query_BE, bias_V), expected_BV)
    padded_BV = torch.full((3, ROWS + 2), 7.0)
    table.score_into(padded_BV, query_BE, bias_V)
    close(padded_BV[:, :ROWS], expected_BV)
    assert (padded_BV[:, ROWS:] == 7).all()
    close(table.products(query_BE[0]), dense_VE @ query_BE[0])
    close(table.norms(), dense_VE.norm(dim=1))
    found = RowLookup(whole)(ids.numpy())[..., :columns]
    close(torch.from_numpy(found), dense_VE[ids])
    assert sum(chosen.parameters(WIDTH, columns)) * 4 == table.num_bytes
    assert chosen.num_bytes(WIDTH) == whole.num_bytes
    assert TableLayout.from_json(json.loads(json.dumps(chosen.to_json()))) == chosen


@settings(deadline=None, max_examples=40)
@given(data=st.data(), seed=seeds)
def test_cutting_a_whole_table_keeps_its_columns_and_gradients(
    data: st.DataObject, seed: int
) -> None:
    chosen = data.draw(layouts(ROWS, WIDTH, projected=False))
    rows_VE = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(seed))
    rows_VE.requires_grad_(True)
    table = whole_table(rows_VE).cut(chosen)
    kept_VE = torch.zeros(ROWS, WIDTH)
    for start, block in zip(chosen.starts, chosen.blocks, strict=True):
        kept_VE[start : block.stop, list(block.columns or range(block.width))] = 1
    assert torch.equal(table.dense(), rows_VE * kept_VE)
    torch.autograd.backward(table.embed(torch.arange(ROWS)).sum())
    assert rows_VE.grad is not None
    assert torch.equal(rows_VE.grad, kept_VE)
    packed = table.detach().contiguous()
    assert packed.num_bytes == chosen.num_bytes(WIDTH)
    assert torch.equal(packed.dense(), table.dense())


@settings(deadline=None, max_examples=60)
@given(data=st.data(), columns=st.integers(1, WIDTH), seed=seeds)
def test_packed_columns_are_the_whole_table_with_the_others_zero(
    data: st.DataObject, columns: int, seed: int
) -> None:
    chosen = data.draw(layouts(ROWS, WIDTH, projected=False))
    generator = torch.Generator().manual_seed(seed)
    rows_VE = torch.randn(ROWS, WIDTH, generator=generator)
    masked_VE = torch.zeros(ROWS, WIDTH)
    for start, block in zip(chosen.starts, chosen.blocks, strict=True):
        for column in block.columns or range(block.width):
            masked_VE[start : block.stop, column] = rows_VE[start : block.stop, column]
    packed = whole_table(rows_VE).cut(chosen).contiguous().slice(columns)
    masked = whole_table(masked_VE).slice(columns)
    query_BE, bias_V = torch.randn(4, columns, generator=generator), torch.randn(ROWS)
    ids = torch.randint(0, ROWS, (3, 5), generator=generator)
    assert torch.equal(packed.embed(ids), masked.embed(ids))
    assert torch.equal(packed.dense(), masked.dense())
    found, expected = packed.scores(query_BE, bias_V), masked.scores(query_BE, bias_V)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_only_a_whole_table_is_cut_and_only_to_prefixes_of_its_size() -> None:
    whole = whole_table(torch.ones(5, 4))
    with pytest.raises(ValueError, match="only to prefixes"):
        whole.cut(layout((5, 2), projected=True))
    with pytest.raises(ValueError, match="end at row 4, the table at row 5"):
        whole.cut(layout((4, 2), projected=False))
    with pytest.raises(ValueError, match="stored whole"):
        whole.cut(layout((5, 2), projected=False)).cut(layout((5, 2), projected=False))


@settings(deadline=None, max_examples=40)
@given(data=st.data(), seed=seeds)
def test_rows_keep_what_their_new_block_can_hold(data: st.DataObject, seed: int) -> None:
    """Same block: bit for bit. Wide enough without projection: exact. Else: nearest."""
    before_layout = data.draw(layouts(ROWS, WIDTH))
    now_rows = data.draw(st.integers(2, ROWS + 10))
    now_layout = data.draw(st.one_of(st.just(before_layout.for_rows(now_rows)),
                                     layouts(now_rows, WIDTH)))  # fmt: skip
    before = random_table(before_layout, WIDTH, seed)
    generator = np.random.default_rng(seed)
    pool = [*generator.permutation(np.arange(1, ROWS)), *[-1] * (now_rows + 1)]
    rows_V = torch.tensor([0, *pool[: now_rows - 1]])
    vectors_VE = before.dense()[rows_V]
    vectors_VE[rows_V < 0] = torch.randn(
        int((rows_V < 0).sum()), WIDTH, generator=torch.Generator().manual_seed(seed)
    )
    now = rearranged(before, rows_V, vectors_VE, now_layout)
    got_VE = now.dense()
    assert [part.width for part in now.parts] == [block.width for block in now_layout.blocks]
    assert now.num_bytes == now_layout.num_bytes(WIDTH)
    assert not got_VE[0].any()
    for place, part in enumerate(now.parts):
        wanted_KE = vectors_VE[part.start : part.stop]
        kept_KE = got_VE[part.start : part.stop]
        if part.projection_RE is None:
            kept = now_layout.blocks[place].columns or range(part.width)
            assert torch.equal(part.rows_NR, wanted_KE[:, list(kept)])
            continue
        # Least squares: what is lost is orthogonal to everything the block can say.
        lost_KE = (wanted_KE - kept_KE).double()
        projection_RE = part.projection_RE.double()
        assert float((lost_KE @ projection_RE.T).abs().max()) < 1e-4
        old = before.parts[place] if place < len(before.parts) else None
        if old is None or old.projection_RE is None or old.width != part.width:
            continue
        assert torch.equal(part.projection_RE, old.projection_RE)
        for row, was in enumerate(rows_V[part.start : part.stop].tolist()):
            if old.start <= was < old.stop:
                assert torch.equal(part.rows_NR[row], old.rows_NR[was - old.start])


@pytest.mark.parametrize("table", [None, PROJECTED, PREFIXES, COLUMNS])
def test_a_supernets_state_holds_its_table(table: TableLayout | None) -> None:
    config = small_config(table=table)
    supernet = random_supernet(config)
    state = supernet.state_dict()
    found = table_of(state, config.table, config.emb_width)
    assert torch.equal(found.dense(), supernet.item_table.dense())
    again = table_state(found, blocked=table is not None)
    assert again.keys() == {name for name in state if name.startswith("table")}
    assert all(torch.equal(again[name], state[name]) for name in again)
    assert supernet.item_table.num_bytes == config.layout.num_bytes(config.emb_width)


@pytest.mark.parametrize("table", [None, PROJECTED, PREFIXES, COLUMNS])
def test_a_fresh_table_is_about_as_long_as_a_whole_one(table: TableLayout | None) -> None:
    config = small_config(table=table)
    supernet = Supernet(config)
    supernet.initialise(torch.Generator().manual_seed(0))
    norms_V = supernet.item_table.detach().norms()
    assert norms_V[0] == 0
    for start, block in zip(config.layout.starts, config.layout.blocks, strict=True):
        share = 1.0 if config.layout.projected else block.width / config.emb_width
        mean = float(norms_V[max(1, start) : block.stop].square().mean())
        assert 0.4 * share < mean < 2.5 * share


def test_a_config_with_a_table_survives_json_and_another_catalog() -> None:
    config = small_config(table=PROJECTED)
    assert SupernetConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    assert "table" not in small_config().to_json()
    assert config.with_items(50).table == layout((8, 12), (20, 5), (51, 2), projected=True)
    assert config.with_items(19).table == layout((8, 12), (20, 5), projected=True)
    assert config.with_items(5).table == layout((6, 12), projected=True)
    assert small_config().with_items(7).layout == dense_layout(8, 12)
    named = small_config(table=COLUMNS)
    assert SupernetConfig.from_json(json.loads(json.dumps(named.to_json()))) == named
    table = named.with_items(50).table
    assert table is not None
    assert table.blocks[-1] == TableBlock(51, 4, (0, 1, 2, 7))


@pytest.mark.parametrize(
    ("blocks", "projected", "told"),
    [
        ([], False, "at least one block"),
        ([(5, 2), (5, 1)], False, "not after row 5"),
        ([(5, 2), (4, 1)], True, "rising rows"),
        ([(5, 2), (9, 3)], True, "rank 3 follows rank 2"),
        ([(5, 0)], False, "width is 0"),
        ([(0, 1)], False, "stop is 0"),
        ([(5, True)], False, "width is True"),
    ],
)
def test_wrong_layouts_are_refused(
    blocks: list[tuple[int, int]], projected: bool, told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        layout(*blocks, projected=projected)


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ((3, 1), "each once, ascending"),
        ((1, 1), "each once, ascending"),
        ((1, 2, 3), "width 2 names 3 columns"),
        ((), "width 2 names 0 columns"),
        ((-1, 2), "column is -1"),
        ((0, True), "column is True"),
        ((0, 2.0), "column is 2.0"),
    ],
)
def test_wrong_columns_are_refused(columns: tuple[int, ...], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        TableBlock(5, 2, columns)


def test_columns_are_told_in_runs() -> None:
    assert runs((0, 1, 2, 3, 8, 12, 13)) == "0-3, 8, 12-13"
    assert runs((5,)) == "5"


def test_columns_that_lead_are_a_prefix_and_others_have_no_projection() -> None:
    assert TableBlock(5, 3, (0, 1, 2)) == TableBlock(5, 3)
    named = TableBlock(5, 2, (0, 3))
    with pytest.raises(ValueError, match="has no projection"):
        TableLayout((named,), projected=True)
    layout_ = TableLayout((named,), projected=False)
    layout_.check(5, 4)
    with pytest.raises(ValueError, match="column 3 of an embedding of 3"):
        layout_.check(5, 3)


@pytest.mark.parametrize(
    "values",
    [
        None,
        [],
        {},
        {"blocks": 3, "projected": True},
        {"blocks": [{"stop": 41}], "projected": True},
        {"blocks": [{"stop": 41, "width": "4"}], "projected": True},
        {"blocks": [{"stop": 41, "width": 4}], "projected": 1},
        {"blocks": [{"stop": 41, "width": 4}], "projected": True, "x": 1},
        {"blocks": [{"stop": n + 1, "width": 1} for n in range(5000)], "projected": True},
        {"blocks": [{"stop": 41, "width": 1, "columns": None}], "projected": False},
        {"blocks": [{"stop": 41, "width": 1, "columns": []}], "projected": False},
        {"blocks": [{"stop": 41, "width": 1, "columns": "3"}], "projected": False},
        {"blocks": [{"stop": 41, "width": 1, "columns": ["3"]}], "projected": False},
        {"blocks": [{"stop": 41, "width": 1, "rows": [3]}], "projected": False},
    ],
)
def test_what_is_no_layout_is_refused(values: object) -> None:
    with pytest.raises(ValueError, match=r"table|projected|width|column"):
        TableLayout.from_json(values)


def test_a_layout_fits_its_config() -> None:
    for table, told in (
        (layout((40, 4), projected=True), "end at row 40, the table at row 41"),
        (layout((41, 13), projected=True), "13 wide, wider than the embedding's 12"),
    ):
        with pytest.raises(ValueError, match=told):
            small_config(table=table)
    assert TableBlock(41, 12) in small_config(table=layout((41, 12), projected=True)).layout.blocks


def test_what_training_scores_of_named_columns_is_what_autograd_says() -> None:
    """At the whole width and at one where a block has no column left."""
    config = small_config(table=COLUMNS)
    for width in config.emb_widths:
        found = []
        for by_hand in (True, False):
            table = random_supernet(config).requires_grad_(True).item_table
            generator = torch.Generator().manual_seed(1)
            query_PE = torch.randn(5, width, generator=generator)
            items_C = torch.tensor([2, 3, 9, 25, 26, 40])
            gradient_PC = torch.randn(5, 6, generator=generator)
            if by_hand:
                scored = ScoredTable(table, items_C)
                scores_PC = scored.scores(query_PE, torch.zeros(6))
                grad_PE = torch.zeros_like(query_PE)
                scored.backward(gradient_PC, query_PE, grad_PE)
                assert scored.accumulate() == []
            else:
                query_PE.requires_grad_(True)
                scores_PC = table.slice(width).scores(query_PE, torch.zeros(41))[:, items_C]
                torch.autograd.backward(scores_PC, gradient_PC)
                grad_PE = query_PE.grad  # type: ignore[assignment]
            grads = [part.rows_NR.grad for part in table.parts]
            found.append((scores_PC.detach(), grad_PE, *grads))
        for one, other in zip(*found, strict=True):
            close(one, other if other is not None else torch.zeros_like(one))

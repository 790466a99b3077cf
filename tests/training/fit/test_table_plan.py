"""Which blocks are trained: as given, or the largest head that fits a budget."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.table.layout import dense_layout
from tests.models.builders import layout, small_config
from training.fit.table_plan import FALLING, TableWish, layout_within, with_table

COUNTS = np.array([0, *(1000 // rank for rank in range(1, 1000))])  # 999 items, Zipf
HELD = COUNTS.cumsum() / COUNTS.sum()


def test_cuts_count_items_and_ranks_stand_beside_them() -> None:
    grid = small_config(40)
    counts = np.ones(41, dtype=np.int64)
    wish = TableWish(cuts=(7, 19), ranks=(12, 5, 2))
    assert with_table(grid, wish, counts).table == layout((8, 12), (20, 5), (41, 2), projected=True)
    one = TableWish(cuts=(), ranks=(3,))
    assert with_table(grid, one, counts).table == layout((41, 3), projected=True)
    assert with_table(grid, None, counts) == grid


@pytest.mark.parametrize(
    ("cuts", "ranks", "num_bytes", "told"),
    [
        (None, None, None, "give table cuts and ranks, or table bytes"),
        ((5,), (2, 1), 100, "not both"),
        ((5,), None, None, "go together"),
        ((7, 5), (3, 2, 1), None, r"7,5; give rising"),
        ((5, 5), (3, 2, 1), None, "give rising"),
        ((0,), (3, 2), None, "at least 1"),
        ((5,), (3, 2, 1), None, "1 table cuts make 2 blocks, and there are 3 table ranks"),
        ((5,), (3, 0), None, "every rank must be at least 1"),
        ((5,), (3, 4), None, "may not rise"),
        (None, None, 0, "at least 1"),
    ],
)
def test_wishes_that_make_no_sense(
    cuts: tuple[int, ...] | None, ranks: tuple[int, ...] | None, num_bytes: int | None, told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        TableWish(cuts=cuts, ranks=ranks, num_bytes=num_bytes)


@pytest.mark.parametrize("inherited", [False, True])
def test_two_levels_have_several_blocks_for_a_budget_whoever_asked_for_them(
    inherited: bool,
) -> None:
    grid = replace(small_config(40), table=layout((8, 12), (41, 2), projected=True))
    grid = replace(grid, two_level=inherited)
    counts = np.arange(41, 0, -1)
    found = with_table(grid, TableWish(num_bytes=1_000), counts, None if inherited else "two_level")
    assert found.two_level
    assert found.table is not None
    assert len(found.table.blocks) > 1
    one = with_table(replace(grid, two_level=False), TableWish(num_bytes=1_000), counts)
    assert one.table is not None
    assert len(one.table.blocks) == 1


def test_a_factor_goes_with_bytes() -> None:
    with pytest.raises(ValueError, match="goes with table bytes"):
        TableWish(cuts=(5,), ranks=(2, 1), factor=2)


@pytest.mark.parametrize("factor", [0, -1, 65])
def test_a_factor_out_of_bounds_is_named(factor: int) -> None:
    with pytest.raises(ValueError, match=f"factor is {factor}; give 1"):
        TableWish(num_bytes=1000, factor=factor)


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        (TableWish(cuts=(40,), ranks=(3, 1)), "cut 40 leaves no item .* has 40"),
        (TableWish(cuts=(10,), ranks=(13, 1)), "rank 13 is more than the embedding's 12 columns"),
        (TableWish(num_bytes=211), "40 items does not fit 211 bytes; the least is 212 bytes"),
    ],
)
def test_wishes_that_do_not_fit_the_catalog(wish: TableWish, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        with_table(small_config(40), wish, np.ones(41, dtype=np.int64))


@settings(deadline=None, max_examples=80)
@given(num_bytes=st.integers(4 * (1000 + 64), 4 * 1000 * 64 - 1))
def test_a_budget_is_met_and_used(num_bytes: int) -> None:
    found = layout_within(num_bytes, COUNTS, 64, FALLING)
    assert found is not None
    spent = found.num_bytes(64)
    assert spent <= num_bytes
    widths = [block.width for block in found.blocks]
    first = widths[0]
    assert widths == sorted({max(1, first // 4**place) for place in range(len(widths))})[::-1]
    if first > 1:
        assert HELD[found.blocks[0].stop - 1] >= 0.5
    # One more row in the head would not fit.
    if len(found.blocks) == 3:
        head = found.blocks[0].stop
        assert found.blocks[1].stop >= head + 1
        assert spent + 4 * (first - widths[1]) * 1 <= num_bytes + 4 * 64 * 64
        covered = 1 - (1 - HELD[head - 1]) ** 2
        assert HELD[found.blocks[1].stop - 1] >= covered - 1e-9


@settings(deadline=None, max_examples=60)
@given(num_bytes=st.integers(4 * (1000 + 64), 4 * 1000 * 64 - 1))
def test_one_rank_for_every_item_is_the_largest_that_fits(num_bytes: int) -> None:
    found = layout_within(num_bytes, COUNTS, 64)
    assert found is not None
    (block,) = found.blocks
    assert found.num_bytes(64) <= num_bytes
    wider = layout((1000, block.width + 1), projected=True)
    assert wider.num_bytes(64) > num_bytes or block.width == 63


@pytest.mark.parametrize("factor", [2, 3, 8])
def test_ranks_fall_by_the_factor_that_was_asked_for(factor: int) -> None:
    found = layout_within(60_000, COUNTS, 64, factor=factor)
    assert found is not None
    widths = [block.width for block in found.blocks]
    assert widths == [max(1, widths[0] // factor**place) for place in range(len(widths))]
    assert found.num_bytes(64) <= 60_000


@pytest.mark.parametrize("factor", [1, 2, FALLING])
def test_more_bytes_never_store_less_and_enough_store_all(factor: int) -> None:
    budgets = [4 * (1000 + 64), 10_000, 20_000, 50_000, 100_000, 200_000, 4 * 64_000 - 1]
    spent = []
    for budget in budgets:
        found = layout_within(budget, COUNTS, 64, factor)
        assert found is not None
        spent.append(found.num_bytes(64))
    assert spent == sorted(spent)
    assert spent[0] == budgets[0]
    assert layout_within(4 * 64_000, COUNTS, 64, factor) is None
    assert dense_layout(1000, 64).num_bytes(64) == 4 * 64_000

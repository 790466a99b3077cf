"""The search of a table in blocks is brute force, bit for bit, and skips blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.search.contract import Wanted
from models.search.exact import best, exact_scores
from models.search.quantise import BLOCK_ROWS
from models.search.search import CatalogSearch
from models.table.table import ItemTable, TablePart, columns_of
from tests.models.search.test_exact_search import ALWAYS, KINDS, NEVER, table, wishes
from tests.models.table_cases import layouts

SCALES = (0.0, 1e-20, 1e-3, 1.0, 30.0, 1e12)


def brute(items: ItemTable, bias: Any, query_E: Any, one: Wanted) -> tuple[list[int], list[float]]:
    """Every row scored by the definition of a score alone: in its block's own numbers."""
    bonus = np.zeros(len(bias), dtype=np.float32)
    bonus[one.memory_rows_N] = one.memory_N
    scores = []
    for part in items.parts:
        own = query_E[: part.width]
        if part.columns_R is not None:
            columns = part.columns_R.numpy()
            own = query_E[columns[columns < len(query_E)]]
        if part.projection_RE is not None:
            nothing = np.zeros(part.width, dtype=np.float32)
            numbers = np.arange(part.width)
            own = exact_scores(part.projection_RE.numpy(), nothing, query_E, numbers)
        here = slice(part.start, part.stop)
        rows = part.rows_NR.numpy()
        scores.append(exact_scores(rows, bias[here], own, np.arange(len(rows)), bonus[here]))
    eligible = np.ones(len(bias), dtype=bool)
    if one.candidates is not None:
        eligible[:] = False
        eligible[list(one.candidates)] = True
    if one.allowed_V is not None:
        eligible &= one.allowed_V
    eligible[list(one.excluded)] = False
    eligible[0] = False
    found = np.flatnonzero(eligible)
    return best(np.concatenate(scores)[found], found, one.k)


@st.composite
def cases(draw: st.DrawFn) -> tuple[ItemTable, Any, Any, list[Wanted]]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = draw(st.sampled_from((2, 7, 40, BLOCK_ROWS + 1, 3 * BLOCK_ROWS - 5)))
    width = draw(st.sampled_from((1, 3, 8, 13)))
    used = draw(st.integers(1, width))
    layout = draw(layouts(rows, width))
    parts = []
    for start, size, block in zip(layout.starts, layout.sizes, layout.blocks, strict=True):
        numbers = table(rng, draw(st.sampled_from(KINDS)), size, block.width)
        numbers *= np.float32(draw(st.sampled_from(SCALES)))
        projection = None
        if layout.projects(block, width):
            kind = draw(st.sampled_from(("gaussian", "few values")))
            projection = torch.from_numpy(table(rng, kind, block.width, width))
        parts.append(TablePart(start, torch.from_numpy(numbers), projection, columns_of(block)))
    bias = rng.standard_normal(rows).astype(np.float32) * np.float32(draw(st.sampled_from((0, 1))))
    queries = rng.standard_normal((draw(st.integers(1, 3)), used)).astype(np.float32)
    queries *= np.float32(draw(st.sampled_from(SCALES)))
    if draw(st.booleans()):
        queries = np.sign(queries)
    wanted = [wishes(draw, rng, rows) for _ in queries]
    return ItemTable(tuple(parts), width), bias, queries, wanted


@pytest.mark.parametrize("index_from", [NEVER, 300, ALWAYS], ids=["plain", "mixed", "index"])
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=cases())
def test_answers_are_those_of_brute_force(index_from: int, case: Any) -> None:
    items, bias, queries, wanted = case
    used = queries.shape[1]
    search = CatalogSearch(
        items, torch.from_numpy(bias), sorted({used, items.emb_width}), index_from=index_from
    )
    found = search.top(torch.from_numpy(queries), wanted)
    for place, (query_E, one) in enumerate(zip(queries, wanted, strict=True)):
        answer = found[place]
        assert (answer.rows, answer.scores) == brute(items, bias, query_E, one)
        alone = search.top(torch.from_numpy(queries[[place]]), [one])[0]
        assert alone == answer


HEAD, TAIL = 50, 400


def head_and_tail(tail: float) -> CatalogSearch:
    """A head of norm-1 rows and a tail of rank 2 whose embeddings are `tail` long."""
    rng = np.random.default_rng(0)
    head = table(rng, "equal norms", HEAD, 8)
    rows = table(rng, "equal norms", TAIL, 2) * np.float32(tail)
    rows[0] = (0, tail)
    projection = np.eye(2, 8, dtype=np.float32)
    items = ItemTable(
        (
            TablePart(0, torch.from_numpy(head)),
            TablePart(HEAD, torch.from_numpy(rows), torch.from_numpy(projection)),
        ),
        8,
    )
    return CatalogSearch(items, torch.zeros(HEAD + TAIL), (8,), index_from=NEVER)


@pytest.mark.parametrize(
    ("tail", "k", "opened"), [(0.01, 5, False), (5.0, 5, True), (0.01, HEAD, True)]
)
def test_a_block_that_cannot_win_is_not_read(tail: float, k: int, opened: bool) -> None:
    """Not read where the bound says so; read where it may win, or the head is too short for k."""
    query = torch.ones(1, 8)
    found = head_and_tail(tail).top(query, [Wanted(k=k)])[0]
    assert found.scanned == HEAD + (TAIL if opened else 0)
    projected = 2 * 8
    assert found.multiply_adds >= 8 * HEAD + projected
    assert (found.multiply_adds < 8 * HEAD + projected + 2 * TAIL + 8 * 20) or opened


def test_memory_brings_up_a_row_of_a_block_that_is_not_read() -> None:
    row = HEAD + 7
    one = Wanted(k=2, memory_rows_N=np.array([row]), memory_N=np.array([9.0], dtype=np.float32))
    found = head_and_tail(0.01).top(torch.ones(1, 8), [one])[0]
    assert found.rows[0] == row
    assert found.scanned == HEAD


def test_an_equal_score_in_a_later_block_loses_to_the_smaller_row() -> None:
    items = ItemTable((TablePart(0, torch.ones(4, 2)), TablePart(4, torch.ones(5, 2))), 2)
    found = CatalogSearch(items, torch.zeros(9), (2,)).top(torch.ones(1, 2), [Wanted(k=3)])[0]
    assert found.rows == [1, 2, 3]

"""The search under two softmaxes is brute force, bit for bit, and opens few blocks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.search.contract import Wanted
from models.search.exact import exact_scores
from models.search.search import parts_of
from models.search.two_level import TwoLevelSearch
from models.table.table import ItemTable, TablePart
from models.table.tokens import BlockTokens
from tests.models.search.test_blocked_search import SCALES
from tests.models.search.test_exact_search import ALWAYS, KINDS, NEVER, table, wishes
from tests.models.table_cases import layouts


def brute(
    items: ItemTable, bias: Any, tokens: BlockTokens, query_E: Any, one: Wanted
) -> tuple[list[int], list[float]]:
    """Every row of every block: its score, its bonus, and the shift of its block."""
    bonus = np.zeros(len(bias), dtype=np.float32)
    bonus[one.memory_rows_N] = one.memory_N
    token_T = exact_scores(
        tokens.tokens_TE.numpy(), tokens.bias_T.numpy(), query_E, np.arange(len(tokens.bias_T))
    )
    scores, raws = [], []
    parts = parts_of(items, torch.from_numpy(bias), (items.emb_width,), index_from=NEVER)
    for place, part in enumerate(parts):
        own = part.queries(query_E[None])[0][0]
        here = slice(part.start, part.stop)
        rows = items.parts[place].rows_NR.numpy()
        raw = exact_scores(rows, bias[here], own, np.arange(len(rows)), bonus[here])
        shift = np.float32(0)
        if place:
            every = part.products(own).astype(np.float64)
            with np.errstate(all="ignore"):
                total = every.max() + np.log(np.exp(every - every.max()).sum())
                shift = np.float32(float(token_T[place - 1]) - float(total))
        raws.append(raw)
        scores.append(raw.astype(np.float64) + np.float64(shift))
    flat = np.concatenate(scores)
    eligible = np.isfinite(flat)
    if one.candidates is not None:
        eligible &= np.isin(np.arange(len(bias)), list(one.candidates))
    if one.allowed_V is not None:
        eligible &= one.allowed_V
    eligible[list(one.excluded)] = False
    eligible[0] = False
    found = np.flatnonzero(eligible)
    found = found[np.lexsort((found, -np.concatenate(raws)[found], -flat[found]))][: one.k]
    return found.tolist(), flat[found].astype(np.float32).tolist()


@st.composite
def cases(draw: st.DrawFn) -> tuple[ItemTable, Any, BlockTokens, Any, list[Wanted]]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = draw(st.sampled_from((4, 40, 300)))
    width = draw(st.sampled_from((1, 3, 8, 13)))
    used = draw(st.integers(1, width))
    layout = draw(layouts(rows, width, projected=True).filter(lambda found: len(found.blocks) > 1))
    parts = []
    for start, size, block in zip(layout.starts, layout.sizes, layout.blocks, strict=True):
        numbers = table(rng, draw(st.sampled_from(KINDS)), size, block.width)
        numbers *= np.float32(draw(st.sampled_from(SCALES)))
        projection = None
        if layout.projects(block, width):
            projection = torch.from_numpy(table(rng, "gaussian", block.width, width))
        parts.append(TablePart(start, torch.from_numpy(numbers), projection))
    bias = rng.standard_normal(rows).astype(np.float32) * np.float32(draw(st.sampled_from((0, 1))))
    tails = len(parts) - 1
    tokens = BlockTokens(
        torch.from_numpy(rng.standard_normal((tails, width)).astype(np.float32)),
        torch.from_numpy(4 * rng.standard_normal(tails).astype(np.float32)),
    )
    queries = rng.standard_normal((draw(st.integers(1, 3)), used)).astype(np.float32)
    queries *= np.float32(draw(st.sampled_from(SCALES)))
    if draw(st.booleans()):
        queries = np.sign(queries)
    wanted = [wishes(draw, rng, rows) for _ in queries]
    return ItemTable(tuple(parts), width), bias, tokens, queries, wanted


@pytest.mark.parametrize("index_from", [NEVER, ALWAYS], ids=["plain", "index"])
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=cases())
def test_answers_are_those_of_brute_force(index_from: int, case: Any) -> None:
    """Any filter, exclusions, candidates, memory and ties; k beyond a block and the catalog."""
    items, bias, tokens, queries, wanted = case
    widths = sorted({queries.shape[1], items.emb_width})
    search = TwoLevelSearch(items, torch.from_numpy(bias), tokens, widths, index_from=index_from)
    found = search.top(torch.from_numpy(queries), wanted)
    for place, (query_E, one) in enumerate(zip(queries, wanted, strict=True)):
        answer = found[place]
        assert (answer.rows, answer.scores) == brute(items, bias, tokens, query_E, one)
        alone = search.top(torch.from_numpy(queries[[place]]), [one])[0]
        assert alone == answer


HEAD, TAIL = 50, 400


def head_and_tails(*token_biases: float) -> TwoLevelSearch:
    """A head of norm-1 rows, and tail blocks of rank 2 with tokens of these biases."""
    rng = np.random.default_rng(0)
    parts = [TablePart(0, torch.from_numpy(table(rng, "equal norms", HEAD, 8)))]
    projection = torch.eye(2, 8)
    for _ in token_biases:
        rows = torch.from_numpy(table(rng, "equal norms", TAIL, 2))
        parts.append(TablePart(parts[-1].stop, rows, projection))
    tokens = BlockTokens(torch.zeros(len(token_biases), 8), torch.tensor(token_biases))
    items = ItemTable(tuple(parts), 8)
    return TwoLevelSearch(items, torch.zeros(len(items)), tokens, (8,), index_from=NEVER)


@pytest.mark.parametrize(
    ("biases", "k", "opened"),
    [
        ((-9.0, -9.0), 5, 0),
        ((9.0, -9.0), 5, 1),
        ((-9.0, 9.0), 5, 1),
        ((9.0, 9.0), 5, 2),
        ((-9.0, -29.0), HEAD, 1),  # the head is too short for k; one tail fills it
    ],
)
def test_a_block_that_cannot_win_is_not_read(
    biases: tuple[float, float], k: int, opened: int
) -> None:
    """Tail blocks are visited by what they can reach, not by their place."""
    found = head_and_tails(*biases).top(torch.ones(1, 8), [Wanted(k=k)])[0]
    assert found.scanned == HEAD + opened * TAIL
    tokens_and_projections = 2 * 8 + 2 * 2 * 8
    assert found.multiply_adds >= 8 * HEAD + tokens_and_projections + opened * 2 * 2 * TAIL


def test_the_reference_rule_of_the_papers_code_would_be_wrong() -> None:
    """k = 1: block A has the larger share, spread over its items; the answer is alone in B."""
    rows = [torch.zeros(2, 2), torch.zeros(400, 1), torch.zeros(1, 1)]
    bias = torch.cat([torch.log(torch.tensor([1.0, 0.25])), torch.zeros(401)])
    parts, start = [], 0
    for block in rows:
        parts.append(TablePart(start, block, None if start == 0 else torch.zeros(1, 2)))
        start += len(block)
    tokens = BlockTokens(torch.zeros(2, 2), torch.log(torch.tensor([0.40, 0.35])))
    items = ItemTable(tuple(parts), 2)
    search = TwoLevelSearch(items, bias, tokens, (2,), index_from=NEVER)
    found = search.top(torch.ones(1, 2), [Wanted(k=1)])[0]
    assert found.rows == [402]
    assert found.scores == pytest.approx([float(np.log(0.35))])
    assert found.scanned == 2 + 1


def test_memory_opens_the_block_of_the_row_it_lifts() -> None:
    row = HEAD + 7
    one = Wanted(k=2, memory_rows_N=np.array([row]), memory_N=np.array([30.0], dtype=np.float32))
    search = head_and_tails(-9.0, -9.0)
    found = search.top(torch.ones(1, 8), [one])[0]
    assert found.rows[0] == row
    assert found.scanned == HEAD + TAIL
    barely = replace(one, memory_N=np.array([0.1], dtype=np.float32))
    assert search.top(torch.ones(1, 8), [barely])[0].scanned == HEAD


def test_what_cannot_be_searched_is_refused() -> None:
    items = ItemTable((TablePart(0, torch.ones(4, 2)), TablePart(4, torch.ones(5, 2))), 2)
    broken = BlockTokens(torch.full((1, 2), torch.nan), torch.zeros(1))
    with pytest.raises(ValueError, match="not finite"):
        TwoLevelSearch(items, torch.zeros(9), broken, (2,))
    search = TwoLevelSearch(
        items, torch.zeros(9), BlockTokens(torch.ones(1, 2), torch.ones(1)), (2,)
    )
    with pytest.raises(ValueError, match="not finite"):
        search.top(torch.tensor([[1.0, torch.inf]]), [Wanted(k=1)])

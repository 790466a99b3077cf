"""The search answers what brute force answers, bit for bit, on every path."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.search.contract import Found, Wanted
from models.search.exact import best, exact_scores
from models.search.quantise import BLOCK_ROWS
from models.search.search import CatalogSearch
from models.table.table import whole_table

NEVER, ALWAYS = 10**9, 0
# Row scales that make ties, overflow of a float32 product, denormals and equal norms likely.
SCALES = (0.0, 1e-42, 1e-20, 1e-3, 1.0, 30.0, 1e12, 3e19)
KINDS = ("gaussian", "few values", "all equal", "equal norms", "duplicates", "zero")


def table(rng: np.random.Generator, kind: str, rows: int, width: int) -> Any:
    if kind == "few values":
        out = rng.integers(-1, 2, (rows, width)).astype(np.float32)
    elif kind == "all equal":
        out = np.ones((rows, width), dtype=np.float32)
    elif kind == "zero":
        out = np.zeros((rows, width), dtype=np.float32)
    else:
        out = rng.standard_normal((rows, width)).astype(np.float32)
        if kind == "equal norms":
            out /= np.linalg.norm(out, axis=1, keepdims=True)
        if kind == "duplicates":
            out = out[rng.integers(0, max(1, rows // 20), rows)]
    out[0] = 0
    return out


def brute(table_VE: Any, bias_V: Any, query_E: Any, one: Wanted) -> tuple[list[int], list[float]]:
    """Every row scored, by the definition of a score alone."""
    bonus = np.zeros(len(bias_V), dtype=np.float32)
    bonus[one.memory_rows_N] = one.memory_N
    scores = exact_scores(table_VE, bias_V, query_E, np.arange(len(bias_V)), bonus)
    eligible = np.ones(len(bias_V), dtype=bool)
    if one.candidates is not None:
        eligible[:] = False
        eligible[list(one.candidates)] = True
    if one.allowed_V is not None:
        eligible &= one.allowed_V
    eligible[list(one.excluded)] = False
    eligible[0] = False
    rows = np.flatnonzero(eligible)
    return best(scores[rows], rows, one.k)


def wishes(draw: st.DrawFn, rng: np.random.Generator, rows: int) -> Wanted:
    """What one query asks for: any mix of exclusions, candidates, filter and memory."""
    listed = np.unique(rng.integers(0, rows, rng.integers(0, 30))).astype(np.int64)
    additions = rng.standard_normal(len(listed)).astype(np.float32)
    share = draw(st.sampled_from((0.0, 0.02, 0.5, 1.0)))
    return Wanted(
        k=draw(st.sampled_from((1, 5, 20, BLOCK_ROWS + 10, 5000))),
        excluded=rng.integers(0, rows, rng.integers(0, 8)).tolist(),
        candidates=None
        if draw(st.integers(0, 3))
        else rng.permutation(rows)[: rng.integers(0, rows)].tolist(),
        allowed_V=None if draw(st.booleans()) else rng.random(rows) < share,
        memory_rows_N=listed,
        memory_N=additions if draw(st.booleans()) else np.abs(additions),
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[Any, Any, Any, list[Wanted]]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = draw(st.sampled_from((2, 7, 40, BLOCK_ROWS, BLOCK_ROWS + 1, 3 * BLOCK_ROWS - 5)))
    width = draw(st.sampled_from((1, 2, 3, 8, 13)))
    used = draw(st.integers(1, width))
    scale = np.float32(draw(st.sampled_from(SCALES)))
    kind = draw(st.sampled_from(KINDS))
    table_VE = table(rng, kind, rows, width) * scale
    if draw(st.booleans()):
        table_VE *= rng.choice(np.array([1e-3, 1, 50], dtype=np.float32), rows)[:, None]
    bias = rng.standard_normal(rows).astype(np.float32) * np.float32(draw(st.sampled_from((0, 1))))
    queries = rng.standard_normal((draw(st.integers(1, 3)), used)).astype(np.float32)
    queries *= np.float32(draw(st.sampled_from(SCALES)))
    if draw(st.booleans()):
        queries = np.sign(queries)
    wanted = [wishes(draw, rng, rows) for _ in queries]
    return table_VE, bias, queries, wanted


@pytest.mark.parametrize("index_from", [NEVER, ALWAYS], ids=["plain", "index"])
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=cases())
def test_answers_are_those_of_brute_force(index_from: int, case: Any) -> None:
    table_VE, bias, queries, wanted = case
    search = CatalogSearch(
        whole_table(torch.from_numpy(table_VE)),
        torch.from_numpy(bias),
        sorted({queries.shape[1], table_VE.shape[1]}),
        index_from=index_from,
    )
    found = search.top(torch.from_numpy(queries), wanted)
    for query_E, one, answer in zip(queries, wanted, found, strict=True):
        assert (answer.rows, answer.scores) == brute(table_VE, bias, query_E, one)


def trained_like(rng: np.random.Generator, rows: int, width: int) -> Any:
    """Clusters, a falling spectrum, and norms that fall with popularity."""
    centres = rng.standard_normal((50, width))
    points = centres[rng.integers(0, 50, rows)] + 0.5 * rng.standard_normal((rows, width))
    points *= np.arange(1, width + 1) ** -0.7
    return (points * (np.arange(1, rows + 1) ** -0.1)[:, None]).astype(np.float32)


@pytest.mark.parametrize("kind", ["gaussian", "trained"])
@pytest.mark.parametrize("width", [16, 32, 64])
def test_a_large_table_is_searched_exactly_and_mostly_by_the_scan(kind: str, width: int) -> None:
    rng = np.random.default_rng(5)
    rows = 60_001
    table_VE = table(rng, kind, rows, 64) if kind == "gaussian" else trained_like(rng, rows, 64)
    bias = (0.3 * rng.standard_normal(rows)).astype(np.float32)
    search = CatalogSearch(
        whole_table(torch.from_numpy(table_VE)),
        torch.from_numpy(bias),
        (16, 32, 64),
        index_from=ALWAYS,
    )
    assert 0 < search.index_bytes < table_VE.nbytes / 4
    queries = rng.standard_normal((4, width)).astype(np.float32)
    wanted = [
        Wanted(k=20),
        Wanted(k=20, allowed_V=rng.random(rows) < 0.5, excluded=range(100)),
        Wanted(k=300, allowed_V=rng.random(rows) < 0.001),
        Wanted(
            k=20,
            memory_rows_N=np.arange(5, 900, 3),
            memory_N=rng.standard_normal(299).astype(np.float32),
        ),
    ]
    found = search.top(torch.from_numpy(queries), wanted)
    for query_E, one, answer in zip(queries, wanted, found, strict=True):
        assert (answer.rows, answer.scores) == brute(table_VE, bias, query_E, one)
        assert answer.multiply_adds == width * (answer.scanned + answer.checked)
        assert answer.scanned <= rows
    assert found[0].checked < rows / 5


def test_scores_agree_with_the_float32_product() -> None:
    rng = np.random.default_rng(1)
    table_VE, bias = table(rng, "gaussian", 500, 64), np.zeros(500, dtype=np.float32)
    query = rng.standard_normal((1, 64)).astype(np.float32)
    search = CatalogSearch(whole_table(torch.from_numpy(table_VE)), torch.from_numpy(bias), (64,))
    (found,) = search.top(torch.from_numpy(query), [Wanted(k=499)])
    expected = (table_VE @ query[0])[found.rows]
    np.testing.assert_allclose(found.scores, expected, rtol=1e-5, atol=1e-5)


def test_an_answer_does_not_depend_on_its_batch() -> None:
    rng = np.random.default_rng(2)
    table_VE, bias = table(rng, "gaussian", 900, 16), np.zeros(900, dtype=np.float32)
    queries = torch.from_numpy(rng.standard_normal((7, 16)).astype(np.float32))
    search = CatalogSearch(whole_table(torch.from_numpy(table_VE)), torch.from_numpy(bias), (16,))
    together = search.top(queries, [Wanted(k=10)] * 7)
    alone: list[Found] = [search.top(query[None], [Wanted(k=10)])[0] for query in queries]
    assert together == alone


def test_memory_that_takes_away_still_counts() -> None:
    table_VE = np.ones((300, 4), dtype=np.float32)
    bias = np.linspace(1, 0, 300, dtype=np.float32)
    one = Wanted(
        k=3, memory_rows_N=np.array([1, 2]), memory_N=np.array([-5.0, 0.5], dtype=np.float32)
    )
    for index_from in (NEVER, ALWAYS):
        search = CatalogSearch(
            whole_table(torch.from_numpy(table_VE)),
            torch.from_numpy(bias),
            (4,),
            index_from=index_from,
        )
        (found,) = search.top(torch.ones(1, 4), [one])
        assert found.rows == [2, 3, 4]
        (found,) = search.top(torch.ones(1, 4), [replace(one, excluded=(2,))])
        assert found.rows == [3, 4, 5]


def test_a_table_or_query_that_is_not_finite_is_refused() -> None:
    table_VE, bias = torch.ones(5, 2), torch.zeros(5)
    with pytest.raises(ValueError, match="query vector is not finite"):
        CatalogSearch(whole_table(table_VE), bias, (2,)).top(
            torch.tensor([[torch.nan, 0.0]]), [Wanted(k=1)]
        )
    table_VE[3, 1] = torch.inf
    with pytest.raises(ValueError, match="item table or bias"):
        CatalogSearch(whole_table(table_VE), bias, (2,))
    with pytest.raises(ValueError, match="float32"):
        CatalogSearch(whole_table(torch.ones(5, 2, dtype=torch.float64)), bias, (2,))


def test_widths_outside_the_table_are_refused() -> None:
    with pytest.raises(ValueError, match=r"widths \(9,\)"):
        CatalogSearch(whole_table(torch.ones(5, 2)), torch.zeros(5), (9,), index_from=0)

"""With an index the engine answers what the evaluated scores say, and charges what it looked at."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.synthetic_checkpoint import write_ranker
from models.catalog import Catalog
from models.checkpoint.contents import Checkpoint
from models.checkpoint.read import read_checkpoint
from models.config import Submodel
from models.memory import TransitionMemory
from models.ranker import Ranker, recent, stack
from models.search.search import INDEX_FROM_ROWS
from models.topk import top_rows
from service.engine.contract import Compute, FilterClause, ItemFilter, Query
from service.engine.torch_engine import TorchEngine
from tests.models.builders import random_memory, random_router, random_supernet, small_config
from tests.models.published import (
    CASES,
    GENRES,
    HIDDEN,
    attributes,
    external_ids,
    publish_random,
    random_ranker,
)
from tests.service.engine.test_torch_engine import (
    NAMES,
    RANKER,
    answers_equal_brute_force,
    queries,
)

ALWAYS = 0
LARGE = small_config(INDEX_FROM_ROWS + 500)
# By rising cost: at this size the embedding width decides.
LARGE_NAMES = sorted(NAMES, key=lambda name: (Submodel.parse(name).emb_width, NAMES.index(name)))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    root = tmp_path_factory.mktemp("models")
    return read_checkpoint(root / publish_random(root))


@pytest.fixture(scope="module")
def indexed(checkpoint: Checkpoint) -> TorchEngine:
    return TorchEngine(checkpoint, index_from=ALWAYS)


@settings(max_examples=150, deadline=None)
@given(batch=st.lists(queries, min_size=1, max_size=6))
def test_answers_equal_brute_force_whatever_the_batch(
    indexed: TorchEngine, batch: list[Query]
) -> None:
    for query, ranking in zip(batch, answers_equal_brute_force(indexed, batch), strict=True):
        assert indexed.recommend([query])[0][0].items == ranking.items


@pytest.fixture(scope="module")
def large() -> Ranker:
    """Built once; its memory has six neighbours in the catalog for every item."""
    served = [Submodel.parse(name) for name in LARGE_NAMES]
    assert LARGE.memory is not None
    rng = np.random.default_rng(0)
    per_row = LARGE.memory.row_limit
    starts = rng.integers(0, LARGE.num_items, LARGE.num_items)
    items = (starts[:, None] + np.arange(per_row)) % LARGE.num_items + 1
    offsets = np.concatenate(([0], per_row * np.arange(LARGE.num_items + 1)))
    memory = TransitionMemory(
        config=LARGE.memory,
        offsets=torch.from_numpy(offsets.astype(np.int32)),
        items=torch.from_numpy(items.reshape(-1).astype(np.int32)),
        weights=torch.from_numpy(rng.random(items.size, dtype=np.float32) * 5),
    )
    return Ranker(random_supernet(LARGE), memory, random_router(len(served), hidden=HIDDEN), served)


def mixed(rng: np.random.Generator) -> Iterator[Query]:
    """Queries of every submodel, bare, filtered, with exclusions and with candidates."""
    computes = [Compute(), *(Compute(mode="fixed", submodel=name) for name in NAMES)]
    for number in range(48):
        history = [f"item-{row}" for row in rng.integers(1, LARGE.num_items, 1 + number % 20)]
        genre = FilterClause(field="genres", any_of=(GENRES[number % 3],))
        title = FilterClause(field="title", any_of=tuple(f"Title {row}" for row in range(1, 40)))
        yield Query(
            history=tuple(history),
            k=(1, 20, 100)[number % 3],
            exclude_seen=number % 5 != 0,
            exclude_items=tuple(f"item-{row}" for row in rng.integers(1, LARGE.num_items, 5)),
            candidates=tuple(f"item-{row}" for row in rng.integers(1, LARGE.num_items, 300))
            if number % 8 == 7
            else None,
            filter=(None, ItemFilter(must=(genre,)), ItemFilter(must=(title,)))[number % 7 % 3],
            compute=computes[number % len(computes)],
        )


@torch.inference_mode()
def test_a_large_checkpoint_is_served_as_it_is_evaluated(tmp_path: Path, large: Ranker) -> None:
    """Rows whose scores differ by rounding alone may change places; scores may not."""
    version = write_ranker(
        tmp_path,
        supernet=random_supernet(LARGE),
        ranker=large,
        catalog=Catalog(external_ids(LARGE), attributes(LARGE)),
        cases=CASES,
        price=0.2,
    )
    engine = TorchEngine(read_checkpoint(tmp_path / version))
    assert engine.info.search == "index"
    batch = list(mixed(np.random.default_rng(3)))
    rankings = [
        one for at in range(0, len(batch), 16) for one in engine.recommend(batch[at : at + 16])[0]
    ]
    for query, ranking in zip(batch, rankings, strict=True):
        history = [int(item.split("-")[1]) for item in query.history]
        ids_BL, lengths_B = stack([history], large.bucket(len(history)))
        place = LARGE_NAMES.index(str(ranking.submodel))
        scores_V = large.score(place, large.encode(place, ids_BL, lengths_B), ids_BL, lengths_B)[0]
        close(scores_V, query, history)
        _, expected = top_rows(scores_V, query.k)
        rows = [int(item.external_id.split("-")[1]) for item in ranking.items]
        np.testing.assert_allclose(
            [item.score for item in ranking.items], expected, rtol=1e-4, atol=1e-4
        )
        np.testing.assert_allclose(scores_V[rows], expected, rtol=1e-4, atol=1e-4)
        assert len(set(rows)) == len(rows)


def close(scores_V: torch.Tensor, query: Query, history: list[int]) -> None:
    """Set what the query does not allow to -inf."""
    rows_V = np.arange(len(scores_V))
    eligible_V = np.ones(len(scores_V), dtype=bool)
    if query.exclude_seen:
        eligible_V[history] = False
    eligible_V[[int(item.split("-")[1]) for item in query.exclude_items]] = False
    if query.candidates is not None:
        eligible_V &= np.isin(rows_V, [int(item.split("-")[1]) for item in query.candidates])
    if query.filter is not None:
        (clause,) = query.filter.must
        if clause.field == "title":
            eligible_V &= (rows_V > 0) & (rows_V < 40)
        else:
            eligible_V &= rows_V % 3 == GENRES.index(clause.any_of[0])
    scores_V[torch.from_numpy(~eligible_V)] = -torch.inf


def test_narrow_submodels_of_a_large_catalog_share_the_table(large: Ranker) -> None:
    own = large.table.dense().untyped_storage().data_ptr()
    tables = [weights.table.dense() for weights in large._weights]
    assert {table.shape[1] for table in tables} == {8, 12}
    assert {table.untyped_storage().data_ptr() for table in tables} == {own}


def test_the_memory_adds_the_same_to_a_row_of_scores_and_on_its_own() -> None:
    memory = random_memory(small_config(300))
    assert memory is not None
    ranker = random_ranker(small_config(300))
    rng = np.random.default_rng(0)
    histories = [rng.integers(1, 301, length) for length in (1, 2, 3, 9, 20)]
    recent_BW = recent(histories, ranker.window)
    gains_B = rng.standard_normal(5).astype(np.float32)
    assert ranker._lookup is not None
    dense_BV = np.zeros((5, 301), dtype=np.float32)
    ranker._lookup.add_to(dense_BV, recent_BW, gains_B)
    offsets = memory.offsets.numpy()
    for place, added in enumerate(ranker.additions(recent_BW, gains_B)):
        assert (np.diff(added.rows_R) > 0).all()
        sparse_V = np.zeros(301, dtype=np.float32)
        sparse_V[added.rows_R] = added.values_R
        assert (sparse_V == dense_BV[place]).all()
        rows = recent_BW[place]
        assert added.entries == (offsets[rows + 1] - offsets[rows]).sum()


def test_scoring_is_charged_by_the_rows_looked_at(indexed: TorchEngine) -> None:
    full = Compute(mode="full")
    few = Query(history=("item-1",), compute=full, candidates=("item-2", "item-3"))
    every = Query(history=("item-1",), compute=full)
    (charged, all_rows), timings = indexed.recommend([few, every])
    width = RANKER.served[-1].emb_width
    memory = RANKER.memory
    assert memory is not None
    entries = int(memory.offsets[2] - memory.offsets[1])
    assert charged.flops.scoring == 2 * 2 * width + 2 * entries
    assert all_rows.flops.scoring >= 2 * width * RANKER.config.num_items
    assert charged.flops_full == all_rows.flops_full
    assert timings.work[NAMES[-1], "scoring"].flops == (
        charged.flops.scoring + all_rows.flops.scoring
    )


def test_a_score_that_is_not_a_number_is_an_error(checkpoint: Checkpoint) -> None:
    engine = TorchEngine(checkpoint, index_from=ALWAYS)
    positions_LE = engine._ranker._positions[-1]
    assert positions_LE is not None
    positions_LE[:] = np.nan
    with pytest.raises(FloatingPointError, match="not a number"):
        engine.recommend([Query(history=("item-1",), compute=Compute(mode="full"))])


def test_where_the_index_cannot_be_built_the_product_serves(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "models.search.scan", None)
    with caplog.at_level(logging.WARNING):
        engine = TorchEngine(checkpoint, index_from=ALWAYS)
    assert [record.getMessage()[:30] for record in caplog.records] == [
        "the index over 41 rows cannot "
    ]
    assert engine.info.search == "product"
    assert engine.recommend([Query(history=("item-1",), k=3)])[0][0].items

"""The torch engine answers what brute force over the evaluated scores answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.checkpoint.read import read_checkpoint
from models.ranker import Ranker, stack
from service.engine.contract import (
    PARTS,
    Compute,
    FilterClause,
    ItemFilter,
    Query,
    Ranking,
    UnknownFieldError,
    UnknownItemError,
    UnknownSubmodelError,
)
from service.engine.torch_engine import TorchEngine
from tests.models.builders import small_config
from tests.models.published import GENRES, publish_random, random_ranker

CONFIG = small_config()
RANKER = random_ranker(CONFIG)
NAMES = [submodel.name for submodel in RANKER.served]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> TorchEngine:
    root = tmp_path_factory.mktemp("models")
    return TorchEngine(read_checkpoint(root / publish_random(root)))


@torch.inference_mode()
def brute_force(query: Query, place: int, ranker: Ranker = RANKER) -> list[tuple[str, float]]:
    """Score everything with the evaluated network, filter, sort by score and then row."""
    rows = [int(item.split("-")[1]) for item in query.history]
    length = min(len(rows), CONFIG.max_length)
    ids_BL, lengths_B = stack([rows], ranker.bucket(length))
    scores = ranker.score(place, ranker.encode(place, ids_BL, lengths_B), ids_BL, lengths_B)[0]
    banned = {int(item.split("-")[1]) for item in query.exclude_items}
    if query.exclude_seen:
        banned |= set(rows)
    eligible = [row for row in range(1, CONFIG.num_items + 1) if row not in banned]
    if query.candidates is not None:
        eligible = [row for row in eligible if f"item-{row}" in query.candidates]
    if query.filter is not None:
        for clause in query.filter.must:
            eligible = [row for row in eligible if GENRES[row % 3] in clause.any_of]
        for clause in query.filter.must_not:
            eligible = [row for row in eligible if GENRES[row % 3] not in clause.any_of]
    ranked = sorted(eligible, key=lambda row: (-float(scores[row]), row))
    return [(f"item-{row}", float(scores[row])) for row in ranked[: query.k]]


items = st.integers(1, CONFIG.num_items).map(lambda row: f"item-{row}")
clauses = st.builds(
    FilterClause, field=st.just("genres"), any_of=st.lists(st.sampled_from(GENRES)).map(tuple)
)
queries = st.builds(
    Query,
    history=st.lists(items, min_size=1, max_size=30).map(tuple),
    k=st.integers(1, 50),
    exclude_seen=st.booleans(),
    exclude_items=st.lists(items, max_size=10).map(tuple),
    candidates=st.none() | st.lists(items, max_size=12).map(tuple),
    filter=st.none()
    | st.builds(
        ItemFilter,
        must=st.lists(clauses, max_size=1).map(tuple),
        must_not=st.lists(clauses, max_size=1).map(tuple),
    ),
    compute=st.sampled_from(
        [Compute(), Compute(mode="full"), *(Compute(mode="fixed", submodel=n) for n in NAMES)]
    ),
)


def answers_equal_brute_force(
    engine: TorchEngine, batch: list[Query], ranker: Ranker = RANKER
) -> list[Ranking]:
    """Ask and check; returns the rankings. `ranker` is what the engine's checkpoint holds."""
    rankings, _ = engine.recommend(batch)
    for query, ranking in zip(batch, rankings, strict=True):
        assert ranking.submodel in NAMES
        expected = brute_force(query, NAMES.index(ranking.submodel), ranker)
        assert [item.external_id for item in ranking.items] == [name for name, _ in expected]
        assert np.allclose(
            [item.score for item in ranking.items], [score for _, score in expected], atol=1e-4
        )
        assert ranking.short_list == (len(expected) < query.k)
    return rankings


@settings(max_examples=150, deadline=None)
@given(batch=st.lists(queries, min_size=1, max_size=6))
def test_answers_equal_brute_force_whatever_the_batch(
    engine: TorchEngine, batch: list[Query]
) -> None:
    for query, ranking in zip(batch, answers_equal_brute_force(engine, batch), strict=True):
        alone = engine.recommend([query])[0][0]
        assert alone.submodel == ranking.submodel
        assert alone.flops == ranking.flops


@pytest.mark.parametrize("name", NAMES)
def test_flops_are_those_of_the_padded_length(engine: TorchEngine, name: str) -> None:
    place = NAMES.index(name)
    for length, bucket in ((1, 8), (8, 8), (9, 16), (20, 20), (29, 20)):
        history = tuple(f"item-{1 + i % CONFIG.num_items}" for i in range(length))
        fixed = Compute(mode="fixed", submodel=name)
        ranking = engine.recommend([Query(history=history, compute=fixed)])[0][0]
        cost = RANKER.cost(place, bucket, routed=False)
        assert ranking.flops.router == 0
        assert ranking.flops.total == cost.total
        assert ranking.flops_full.total == RANKER.full_cost(bucket).total
        assert ranking.history_length == min(length, CONFIG.max_length)


def test_router_is_charged_only_when_it_runs(engine: TorchEngine) -> None:
    history = ("item-1", "item-2")
    routed = engine.recommend([Query(history=history)])[0][0]
    full = engine.recommend([Query(history=history, compute=Compute(mode="full"))])[0][0]
    assert routed.reason == "router"
    assert routed.flops.router > 0
    assert (full.reason, full.flops) == ("full", full.flops_full)
    assert full.submodel == NAMES[-1]


@pytest.mark.parametrize("bound", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_max_ratio_bounds_total_flops(engine: TorchEngine, bound: float) -> None:
    """Where nothing is cheap enough the cheapest submodel answers."""
    cheapest = engine.recommend([Query(history=("item-5",), compute=Compute(max_ratio=0.0))])[0][0]
    for row in range(1, 30):
        query = Query(history=(f"item-{row}",) * row, compute=Compute(max_ratio=bound))
        ranking = engine.recommend([query])[0][0]
        ratio = ranking.flops.total / ranking.flops_full.total
        assert ratio <= bound * 1.000001 or ranking.submodel == cheapest.submodel
        assert ranking.reason in {"router", "max_ratio"}


def test_higher_price_never_costs_more(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(tmp_path / publish_random(tmp_path, seed=3))
    batch = [
        Query(history=tuple(f"item-{1 + (7 * u + i) % 40}" for i in range(1 + u % 20)))
        for u in range(60)
    ]
    costs = [
        sum(
            ranking.flops.total
            for ranking in TorchEngine(checkpoint, price=price).recommend(batch)[0]
        )
        for price in (0.0, 0.05, 0.2, 0.8, 5.0, 1e6)
    ]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] > costs[-1]


def test_the_allow_list_limits_the_router_and_is_checked(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(tmp_path / publish_random(tmp_path))
    engine = TorchEngine(checkpoint, allowed=[NAMES[1], NAMES[2]])
    rankings, _ = engine.recommend([Query(history=(f"item-{row}",)) for row in range(1, 40)])
    assert {ranking.submodel for ranking in rankings} <= {NAMES[1], NAMES[2]}
    with pytest.raises(ValueError, match=r"\['d9-w8-e8'\] are not served"):
        TorchEngine(checkpoint, allowed=["d9-w8-e8"])


def test_nothing_known_gives_popular_items_without_flops(engine: TorchEngine) -> None:
    ranking = engine.recommend([Query(history=("ghost", "phantom"), k=3)])[0][0]
    assert ranking.source == "popular"
    assert [item.external_id for item in ranking.items] == ["item-1", "item-2", "item-3"]
    assert ranking.missing_items == ("ghost", "phantom")
    assert (ranking.flops.total, ranking.flops_full.total) == (0, 0)
    assert ranking.submodel is None


def test_popular_obeys_exclusions_filters_and_candidates(engine: TorchEngine) -> None:
    noir = ItemFilter(must=(FilterClause(field="genres", any_of=("noir",)),))
    query = Query(k=2, exclude_items=("item-2",), filter=noir)
    assert [i.external_id for i in engine.popular(query).items] == ["item-5", "item-8"]
    query = Query(k=3, candidates=("item-30", "item-4", "ghost"))
    answer = engine.popular(query)
    assert [i.external_id for i in answer.items] == ["item-4", "item-30"]
    assert answer.short_list
    assert answer.missing_items == ("ghost",)


def test_a_soft_filter_is_filled_with_popular_items(engine: TorchEngine) -> None:
    none = ItemFilter(must=(FilterClause(field="title", any_of=("Title 9",)),))
    strict = engine.recommend([Query(history=("item-1",), k=3, filter=none)])[0][0]
    assert [item.external_id for item in strict.items] == ["item-9"]
    assert strict.short_list
    soft = engine.recommend([Query(history=("item-1",), k=3, filter=none, strict_filter=False)])
    assert [item.external_id for item in soft[0][0].items] == ["item-9", "item-2", "item-3"]
    assert not soft[0][0].short_list


def test_popular_items_prefer_the_genre_of_the_history(engine: TorchEngine) -> None:
    def places(history: tuple[str, ...]) -> float:
        """The mean rank of one genre among all items."""
        ranking = engine.popular(Query(history=history, k=40, exclude_seen=False))
        assert ranking.source == "popular"
        ranks = {item.external_id: rank for rank, item in enumerate(ranking.items)}
        return sum(ranks[f"item-{row}"] for row in range(1, 41, 3)) / 14

    of_it, of_another = (tuple(f"item-{row}" for row in range(first, 41, 3)) for first in (1, 2))
    assert places(of_it) < places(()) < places(of_another)


def test_booleans_filter_as_words(engine: TorchEngine) -> None:
    new = ItemFilter(must=(FilterClause(field="new", any_of=("true",)),))
    ranking = engine.recommend([Query(history=("item-1",), k=40, filter=new)])[0][0]
    assert {int(item.external_id.split("-")[1]) % 2 for item in ranking.items} == {0}


def test_check_names_what_is_unknown_and_what_is_known(engine: TorchEngine) -> None:
    with pytest.raises(UnknownSubmodelError, match=r"d9-w8-e8.*d1-w8-e8"):
        engine.check(Query(compute=Compute(mode="fixed", submodel="d9-w8-e8")))
    with pytest.raises(UnknownFieldError, match=r"'colour'.*genres, new, title"):
        engine.check(
            Query(filter=ItemFilter(must=(FilterClause(field="colour", any_of=("red",)),)))
        )


def test_a_query_from_before_a_swap_is_still_answered(engine: TorchEngine) -> None:
    unknown = ItemFilter(must=(FilterClause(field="colour", any_of=("red",)),))
    rankings, _ = engine.recommend(
        [
            Query(history=("item-1",), compute=Compute(mode="fixed", submodel="d9-w8-e8")),
            Query(history=("item-1",), filter=unknown),
        ]
    )
    assert rankings[0].reason == "router"
    assert rankings[1].items == ()


def test_similar_items_are_nearest_by_cosine(engine: TorchEngine) -> None:
    table = RANKER.table.dense()
    cosine = torch.nn.functional.cosine_similarity(table, table[4][None])
    cosine[[0, 4]] = -2
    expected = [f"item-{row}" for row in cosine.argsort(descending=True)[:5].tolist()]
    assert [item.external_id for item in engine.similar("item-4", 5)] == expected
    assert len(engine.similar("item-4", 500)) == CONFIG.num_items - 1
    with pytest.raises(UnknownItemError, match="ghost"):
        engine.similar("ghost", 5)


def test_timings_name_every_submodel_that_ran(engine: TorchEngine) -> None:
    rankings, timings = engine.recommend([Query(history=(f"item-{row}",)) for row in range(1, 9)])
    names = {ranking.submodel for ranking in rankings}
    parts = {(name, part) for name in names for part in ("encoder", "scoring")}
    assert set(timings.work) == {("all", "router")} | parts
    for part in PARTS:
        charged = sum(getattr(ranking.flops, part) for ranking in rankings)
        assert sum(work.flops for (_, p), work in timings.work.items() if p == part) == charged
    assert timings.encode_seconds > 0
    assert timings.score_seconds > 0

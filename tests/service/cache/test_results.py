"""The cache holds what was put, for as long and as much as it may, under keys that never meet."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.cache.results import ResultCache, result_key
from service.engine.contract import (
    AS_PUBLISHED,
    Compute,
    FilterClause,
    Flops,
    ItemFilter,
    Price,
    Query,
    RankedItem,
    Ranking,
)
from tests.service.fakes import info, running


def ranking(items: int = 1, *, missing: tuple[str, ...] = ()) -> Ranking:
    return Ranking(
        items=tuple(RankedItem(external_id=f"i{n}", score=1.0) for n in range(items)),
        source="model",
        model_version="v1",
        submodel="d1-w16-e16",
        flops=Flops(router=1, encoder=2, scoring=3),
        flops_full=Flops(encoder=9),
        missing_items=missing,
    )


def key(number: int) -> bytes:
    return number.to_bytes(16)


def test_a_kept_answer_is_the_same_list_and_neither_costs_nor_saves() -> None:
    cache = ResultCache(ttl_seconds=60, max_bytes=1 << 20)
    cache.put(key(1), ranking(3))
    kept = cache.get(key(1))
    assert kept is not None
    assert kept.items == ranking(3).items
    assert (kept.source, kept.reason, kept.submodel) == ("cache", "cache", "d1-w16-e16")
    assert kept.flops.total == kept.flops_full.total == 0
    assert cache.get(key(2)) is None


def test_popular_answers_are_not_kept() -> None:
    cache = ResultCache(ttl_seconds=60, max_bytes=1 << 20)
    cache.put(key(1), replace(ranking(), source="popular", submodel=None))
    assert cache.get(key(1)) is None


def test_entries_end_with_their_time() -> None:
    now = 0.0
    cache = ResultCache(ttl_seconds=10, max_bytes=1 << 20, clock=lambda: now)
    cache.put(key(1), ranking())
    now = 9.9
    assert cache.get(key(1)) is not None
    now = 10.0
    assert cache.get(key(1)) is None
    assert (len(cache), cache.size_bytes) == (0, 0)


RELAXED = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@RELAXED
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20), st.integers(0, 40)), max_size=60))
def test_memory_is_bounded_and_what_was_asked_for_last_stays(
    steps: list[tuple[bool, int, int]],
) -> None:
    cache = ResultCache(ttl_seconds=60, max_bytes=20_000)
    order: list[int] = []
    for put, number, items in steps:
        if put:
            cache.put(key(number), ranking(items, missing=("x" * items,) * items))
        found = cache.get(key(number)) is not None
        if number in order:
            order.remove(number)
        if found:
            order.append(number)
        assert cache.size_bytes <= 20_000
        order = order[len(order) - len(cache) :]
    assert [number for number in range(21) if cache.get(key(number))] == sorted(order)
    if not order:
        assert cache.size_bytes == 0


TEXTS = st.lists(st.sampled_from(["", "a", "b", "ab", 'a","b', "\u2028", "\x00"]), max_size=3)
CLAUSES = st.lists(
    st.builds(FilterClause, field=st.sampled_from("fg"), any_of=TEXTS.map(tuple)), max_size=2
)
FILTERS = st.builds(ItemFilter, must=CLAUSES.map(tuple), must_not=CLAUSES.map(tuple))
QUERIES = st.builds(
    Query,
    history=TEXTS.map(tuple),
    k=st.integers(1, 2),
    exclude_seen=st.booleans(),
    exclude_items=TEXTS.map(tuple),
    candidates=st.none() | TEXTS.map(tuple),
    filter=st.none() | FILTERS,
    strict_filter=st.booleans(),
    compute=st.builds(
        Compute,
        mode=st.sampled_from(["auto", "full"]),
        submodel=st.none() | st.just("d1-w16-e16"),
        max_ratio=st.none() | st.just(0.5),
    ),
)
KEYED = st.tuples(
    st.sampled_from([info("v1"), info("v2")]), st.sampled_from([Price(), Price(base=0.5)]), QUERIES
)


@RELAXED
@given(KEYED, KEYED)
def test_keys_are_equal_exactly_where_everything_is(first: object, second: object) -> None:
    assert isinstance(first, tuple)
    assert isinstance(second, tuple)
    assert (result_key(*first) == result_key(*second)) == (first == second)


def test_the_surcharge_of_overload_asks_for_the_same_answer() -> None:
    query = Query(history=("a",))
    assert result_key(info(), Price(surcharge=3.0), query) == result_key(
        info(), AS_PUBLISHED, query
    )


async def test_hits_are_counted_as_such_and_touch_no_flops() -> None:
    async with running(result_ttl=60) as stack:
        asked = {"history": ["i1", "i2"], "include": ["scores"]}
        first = (await stack.client.post("/recommend", json=asked)).json()
        flops = await stack.metric("canet_compute_flops_total", part="encoder")
        baseline = await stack.metric("canet_compute_baseline_flops_total", part="encoder")
        second = (await stack.client.post("/recommend", json=asked)).json()
        assert (first["source"], second["source"]) == ("model", "cache")
        assert second["items"] == first["items"]
        assert second["recommendation_id"] != first["recommendation_id"]
        assert second["compute"] == {
            "submodel": first["compute"]["submodel"],
            "flops": 0,
            "flops_full": 0,
            "saved_ratio": 0.0,
            "reason": "cache",
        }
        assert await stack.metric("canet_compute_flops_total", part="encoder") == flops
        assert await stack.metric("canet_compute_baseline_flops_total", part="encoder") == baseline
        for result in ("hit", "miss"):
            name = "canet_cache_requests_total"
            assert await stack.metric(name, cache="result", result=result) == 1
        hits = await stack.metric("canet_recommendations_total", source="cache", variant="stable")
        assert hits == 1
        other = (await stack.client.post("/recommend", json={**asked, "k": 3})).json()
        assert other["source"] == "model"

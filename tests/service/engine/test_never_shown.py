"""Whatever answers, nothing is shown that the operator blocked or the caller ruled out.

Every path to a list of items, over a real checkpoint, against a definition of eligibility that is
written down anew: network by product and by index, popular items with and without a history,
filling up, candidates, similar items.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.checkpoint.read import read_checkpoint
from service.blocklist.blocklist import blocked
from service.engine.contract import Compute, FilterClause, ItemFilter, Query, RankedItem
from service.engine.torch_engine import TorchEngine
from tests.models.builders import small_config
from tests.models.published import GENRES, attributes, external_ids, publish_random

CONFIG = small_config()
ITEMS = external_ids(CONFIG)
ATTRIBUTES = dict(zip(ITEMS, attributes(CONFIG), strict=True))
ITEM = st.sampled_from([*ITEMS, "ghost", "phantom"])
CLAUSES = st.lists(
    st.one_of(
        st.builds(
            FilterClause,
            field=st.just("genres"),
            any_of=st.lists(st.sampled_from([*GENRES, "opera"]), min_size=1, max_size=2).map(tuple),
        ),
        st.builds(
            FilterClause,
            field=st.just("new"),
            any_of=st.sampled_from([("true",), ("false",), ("true", "false")]),
        ),
    ),
    max_size=2,
).map(tuple)
QUERIES = st.builds(
    Query,
    history=st.lists(ITEM, max_size=12).map(tuple),
    k=st.sampled_from((1, 5, 40, 60)),
    exclude_seen=st.booleans(),
    exclude_items=st.lists(ITEM, max_size=8, unique=True).map(tuple),
    candidates=st.none() | st.lists(ITEM, min_size=1, max_size=12, unique=True).map(tuple),
    filter=st.none() | st.builds(ItemFilter, must=CLAUSES, must_not=CLAUSES),
    strict_filter=st.booleans(),
    compute=st.sampled_from((Compute(), Compute(mode="full"), Compute(max_ratio=0.3))),
    blocked=st.lists(ITEM, max_size=30).map(blocked),
)


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> list[TorchEngine]:
    root = tmp_path_factory.mktemp("models")
    checkpoint = read_checkpoint(root / publish_random(root, config=CONFIG))
    return [TorchEngine(checkpoint), TorchEngine(checkpoint, index_from=1)]


def holds(item: str, clause: FilterClause) -> bool:
    value: Any = ATTRIBUTES[item][clause.field]
    texts = [str(value).lower()] if isinstance(value, bool) else value
    return any(text in clause.any_of for text in texts)


def passes(item: str, query: Query, *, must: bool) -> bool:
    wanted = query.filter or ItemFilter()
    return not any(holds(item, clause) for clause in wanted.must_not) and not (
        must and not all(holds(item, clause) for clause in wanted.must)
    )


def eligible(query: Query) -> list[str]:
    """What may be shown at all, the filter's `must` aside."""
    return [
        item
        for item in ITEMS
        if item not in query.blocked.external_ids
        and item not in query.exclude_items
        and not (query.exclude_seen and item in query.history)
        and (query.candidates is None or item in query.candidates)
        and passes(item, query, must=False)
    ]


def check(items: tuple[RankedItem, ...], query: Query) -> None:
    shown = [item.external_id for item in items]
    may = eligible(query)
    assert set(shown) <= set(may)
    assert len(set(shown)) == len(shown)
    passing = [item for item in may if passes(item, query, must=True)]
    filling = query.filter is not None and not query.strict_filter
    assert len(shown) == min(query.k, len(may if filling else passing)), "nothing eligible is lost"
    first = min(query.k, len(passing))
    assert set(shown[:first]) <= set(passing), "what passes the filter comes first"


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(queries=st.lists(QUERIES, min_size=1, max_size=4))
def test_no_path_shows_what_is_ruled_out_or_loses_what_is_not(
    engines: list[TorchEngine], queries: list[Query]
) -> None:
    answers = [engine.recommend(queries)[0] for engine in engines]
    for place, query in enumerate(queries):
        for rankings in answers:
            check(rankings[place].items, query)
            assert rankings[place].short_list == (len(rankings[place].items) < query.k)
        product, index = (
            [item.external_id for item in rankings[place].items] for rankings in answers
        )
        assert product == index
        check(engines[0].popular(query).items, query)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    item=st.sampled_from(ITEMS),
    k=st.sampled_from((1, 10, 50)),
    hidden=st.lists(ITEM, max_size=30).map(blocked),
)
def test_similar_items_are_never_blocked_ones(
    engines: list[TorchEngine], item: str, k: int, hidden: Any
) -> None:
    shown = [one.external_id for one in engines[0].similar(item, k, hidden)]
    may = [one for one in ITEMS if one != item and one not in hidden.external_ids]
    assert set(shown) <= set(may)
    assert len(shown) == min(k, len(may))

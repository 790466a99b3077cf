"""One suite over every history store: memory, Redis on the embedded server, a real Redis."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.store.contract import (
    MOST_SHOWN,
    HistoryEntry,
    HistoryStore,
    Interaction,
    ShownTo,
)
from service.store.memory_store import MemoryHistoryStore
from service.store.redis_config import RedisConfig
from service.store.redis_history import RedisHistoryStore
from service.store.shown import shown

MAX = 5
KINDS = ["memory", "embedded", "real"]


@pytest.fixture(params=KINDS)
def make_store(request: pytest.FixtureRequest) -> Callable[[], HistoryStore]:
    if request.param == "memory":
        return lambda: MemoryHistoryStore(history_max=MAX)
    name = "redis_server_url" if request.param == "embedded" else "real_redis_url"
    config = RedisConfig(
        url=request.getfixturevalue(name),
        history_max=MAX,
        history_ttl_seconds=60,
        # Generous: the suite asks for truth, on a machine that may be busy.
        op_timeout_seconds=5,
        write_timeout_seconds=5,
        connect_timeout_seconds=5,
        pool_wait_seconds=5,
        key_prefix=f"canet-test:{uuid.uuid4().hex}",
    )
    return lambda: RedisHistoryStore(config)


@pytest.fixture
async def store(make_store: Callable[[], HistoryStore]) -> AsyncIterator[HistoryStore]:
    store = make_store()
    yield store
    await store.close()


def seen(item: str, ms: int, *, user: str = "ada", event: str | None = None) -> Interaction:
    return Interaction(user_id=user, external_id=item, timestamp_ms=ms, event_id=event)


def entry(item: str, ms: int) -> HistoryEntry:
    return HistoryEntry(external_id=item, timestamp_ms=ms)


async def test_an_unknown_user_has_an_empty_history(store: HistoryStore) -> None:
    assert await store.recent("nobody", 10) == []
    assert await store.entries("nobody", 10) == []
    assert await store.delete("nobody") is False


async def test_recent_returns_the_newest_oldest_first(store: HistoryStore) -> None:
    assert await store.append([seen("a", 1), seen("b", 2), seen("c", 3)]) == [True] * 3
    assert await store.recent("ada", 2) == ["b", "c"]
    assert await store.recent("ada", 10) == ["a", "b", "c"]
    assert await store.recent("ada", 0) == []
    assert await store.entries("ada", 2) == [entry("b", 2), entry("c", 3)]


async def test_append_of_nothing_is_nothing(store: HistoryStore) -> None:
    assert await store.append([]) == []


async def test_a_late_event_sorts_into_its_place(store: HistoryStore) -> None:
    await store.append([seen("a", 10), seen("c", 30)])
    await store.append([seen("b", 20)])
    assert await store.recent("ada", 10) == ["a", "b", "c"]


async def test_equal_timestamps_keep_the_order_of_arrival(store: HistoryStore) -> None:
    await store.append([seen("z", 7), seen("a", 7)])
    await store.append([seen("m", 7), seen("later", 8)])
    await store.append([seen("b", 7)])
    assert await store.recent("ada", 10) == ["z", "a", "m", "b", "later"]
    assert [e.timestamp_ms for e in await store.entries("ada", 10)] == [7, 7, 7, 7, 8]


async def test_order_of_arrival_survives_thousands_of_equal_timestamps(store: HistoryStore) -> None:
    ms = 1_767_225_600_123
    for start in range(0, 2500, 500):
        await store.append([seen(f"i{n}", ms) for n in range(start, start + 500)])
    assert await store.recent("ada", 10) == [f"i{n}" for n in range(2495, 2500)]
    assert {e.timestamp_ms for e in await store.entries("ada", 10)} == {ms}


async def test_an_event_id_is_taken_once(store: HistoryStore) -> None:
    assert await store.append([seen("a", 1, event="e"), seen("a", 2, event="e")]) == [True, False]
    assert await store.append([seen("b", 3, event="e"), seen("b", 3, event="f")]) == [False, True]
    assert await store.entries("ada", 10) == [entry("a", 1), entry("b", 3)]


async def test_without_event_id_item_and_timestamp_are_the_event(store: HistoryStore) -> None:
    assert await store.append([seen("a", 1)]) == [True]
    assert await store.append([seen("a", 1), seen("a", 2), seen("b", 1)]) == [False, True, True]
    assert await store.recent("ada", 10) == ["a", "b", "a"]


async def test_users_are_apart(store: HistoryStore) -> None:
    users = ["ada", "a{b}da", "}:h", "%7B", "ä ö\n", "x" * 256, "u:ada", "🦊"]
    new = await store.append([seen(f"i{n}", 1, user=user) for n, user in enumerate(users)])
    assert new == [True] * len(users)
    for n, user in enumerate(users):
        assert await store.recent(user, 10) == [f"i{n}"]


async def test_item_ids_of_every_kind_come_back_whole(store: HistoryStore) -> None:
    items = ["ä\x00b", "🦊", "x" * 256, " ", "12345678"]
    await store.append([seen(item, n) for n, item in enumerate(items)])
    assert await store.recent("ada", 10) == items


async def test_a_history_is_bounded_and_forgets_the_oldest(store: HistoryStore) -> None:
    await store.append([seen(f"i{n}", n) for n in range(MAX + 3)])
    assert await store.recent("ada", 100) == [f"i{n}" for n in range(3, MAX + 3)]
    await store.append([seen("too-late", 0)])
    assert await store.recent("ada", 100) == [f"i{n}" for n in range(3, MAX + 3)]


async def test_replace_takes_the_place_of_everything(store: HistoryStore) -> None:
    await store.append([seen("old", 9)])
    await store.replace("ada", [entry("b", 2), entry("a", 1), entry("c", 2), entry("a", 1)])
    assert await store.entries("ada", 10) == [entry("a", 1), entry("b", 2), entry("c", 2)]
    await store.replace("ada", [entry(f"i{n}", n) for n in range(MAX + 2)])
    assert await store.recent("ada", 10) == [f"i{n}" for n in range(2, MAX + 2)]
    await store.replace("ada", [])
    assert await store.recent("ada", 10) == []


async def test_merge_is_the_union_by_time_and_the_source_is_gone(store: HistoryStore) -> None:
    await store.append([seen("a", 1), seen("both", 2, event="e"), seen("same", 3)])
    guest = [("g", 2, None), ("both", 5, "e"), ("same", 3, None), ("h", 9, None)]
    await store.append([seen(i, ms, user="guest", event=e) for i, ms, e in guest])
    assert await store.merge("ada", "guest") == 5
    assert await store.recent("ada", 10) == ["a", "both", "g", "same", "h"]
    assert await store.recent("guest", 10) == []
    assert await store.merge("ada", "guest") == 5
    assert await store.merge("new", "ada") == 5
    assert await store.merge("x", "y") == 0
    with pytest.raises(ValueError, match="itself"):
        await store.merge("new", "new")


async def test_delete_forgets_and_is_idempotent(store: HistoryStore) -> None:
    await store.append([seen("a", 1, event="e")])
    assert await store.delete("ada") is True
    assert await store.delete("ada") is False
    assert await store.recent("ada", 10) == []
    assert await store.append([seen("a", 1, event="e")]) == [True], "forgotten is forgotten"


@pytest.mark.parametrize(
    "bad", [seen("", 1), seen("a", -1), seen("a", 2**43), seen("a", 1, user="")]
)
async def test_what_cannot_be_kept_is_refused_whole(store: HistoryStore, bad: Interaction) -> None:
    with pytest.raises(ValueError, match=r"empty|outside"):
        await store.append([seen("ok", 1), bad])
    assert await store.recent("ada", 10) == []


async def test_a_repeat_within_one_call_is_known_even_when_already_out_of_bounds(
    store: HistoryStore,
) -> None:
    await store.append([seen(f"i{n}", 100 + n) for n in range(MAX)])
    assert await store.append([seen("a", 1), seen("a", 1)]) == [True, False]


def answer(name: str, *items: str, user: str = "ada", seconds_ago: float = 0.0) -> ShownTo:
    return ShownTo(
        user_id=user,
        recommendation_id=name,
        shown=shown("stable", "d1-w16-e16", items),
        made_at=time.monotonic() - seconds_ago,
    )


async def test_what_a_user_was_shown_is_known_for_this_user_alone(store: HistoryStore) -> None:
    other = answer("r3", "c", user="bob")
    await store.remember([answer("r1", "a", "b"), answer("r2"), other])
    named = [("ada", "r1"), ("bob", "r1"), ("bob", "r3"), ("ada", "r2"), ("ada", "r9")]
    assert await store.recall(named) == [
        shown("stable", "d1-w16-e16", ["a", "b"]),
        None,
        other.shown,
        shown("stable", "d1-w16-e16", []),
        None,
    ]
    assert await store.recent("ada", 10) == []
    await store.remember([])
    assert await store.recall([]) == []


async def test_of_what_a_user_was_shown_the_newest_are_known(store: HistoryStore) -> None:
    names = [f"r{number:03d}" for number in range(MOST_SHOWN + 40)]
    for name in names:
        await store.remember([answer(name, "a")])
    found = await store.recall([("ada", name) for name in names])
    known = [name for name, one in zip(names, found, strict=True) if one is not None]
    assert known == names[-len(known) :]
    assert MOST_SHOWN <= len(known) < MOST_SHOWN + 8


async def test_forgetting_a_user_forgets_what_they_were_shown_also_what_is_on_its_way(
    store: HistoryStore,
) -> None:
    await store.remember([answer("r1", "a")])
    assert await store.delete("ada") is True
    await store.remember([answer("r2", "b", seconds_ago=5), answer("r3", "b", user="bob")])
    found = await store.recall([("ada", "r1"), ("ada", "r2"), ("bob", "r3")])
    assert [one is not None for one in found] == [False, False, True]
    assert await store.delete("ada") is False


async def test_merging_gives_the_user_what_the_source_was_shown(store: HistoryStore) -> None:
    await store.remember([answer("r1", "a", user="guest"), answer("r2", "b")])
    await store.merge("ada", "guest")
    await store.remember([answer("r3", "c", user="guest", seconds_ago=5)])
    found = await store.recall([("ada", "r1"), ("ada", "r2"), ("guest", "r1"), ("guest", "r3")])
    assert [one is not None for one in found] == [True, True, False, False]


async def test_ping_answers(store: HistoryStore) -> None:
    assert await store.ping() is True


async def test_concurrent_appends_all_arrive_once(store: HistoryStore) -> None:
    events = [seen("a", n, user=f"u{n % 7}", event=f"e{n}") for n in range(28)] * 3
    new = await asyncio.gather(*(store.append([event]) for event in events))
    assert sum(answer[0] for answer in new) == 28
    for n in range(7):
        assert len(await store.recent(f"u{n}", 10)) == 4


# Random interleavings against a model that is a plain list.

USERS = st.sampled_from(["u", "v"])
EVENTS = st.tuples(
    USERS,
    st.sampled_from("abcd"),
    st.integers(1, 3),
    st.sampled_from([None, "e1", "e2", "e3"]),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.lists(EVENTS, max_size=6)),
        st.tuples(st.just("merge"), st.sampled_from([("u", "v"), ("v", "u")])),
        st.tuples(st.just("delete"), USERS),
    ),
    max_size=12,
)


class Model:
    """Rows (ms, identity, item) in order of arrival, sorted stably by ms on every change."""

    def __init__(self) -> None:
        self.rows: dict[str, list[tuple[int, object, str]]] = {"u": [], "v": []}

    def add(self, user: str, ms: int, identity: object, item: str) -> bool:
        rows = self.rows[user]
        if any(row[1] == identity for row in rows):
            return False
        rows.append((ms, identity, item))
        rows.sort(key=lambda row: row[0])
        return True

    def trim(self) -> None:
        for rows in self.rows.values():
            del rows[:-MAX]


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=STEPS)
def test_any_interleaving_matches_the_model(
    make_store: Callable[[], HistoryStore], steps: list[tuple[str, object]]
) -> None:
    asyncio.run(follow(make_store, steps))


async def follow(make_store: Callable[[], HistoryStore], steps: list[tuple[str, object]]) -> None:
    store, model = make_store(), Model()
    run = uuid.uuid4().hex
    try:
        for kind, what in steps:
            if kind == "append":
                assert isinstance(what, list)
                # One at a time: trimming happens per call, so a batch and the model agree.
                for user, item, ms, event in what:
                    new = await store.append([seen(item, ms, user=user + run, event=event)])
                    assert new == [model.add(user, ms, event or (item, ms), item)]
                    model.trim()
            elif kind == "merge":
                assert isinstance(what, tuple)
                into, source = what
                for ms, identity, item in model.rows[source]:
                    model.add(into, ms, identity, item)
                model.rows[source] = []
                model.trim()
                length = await store.merge(into + run, source + run)
                assert length == len(model.rows[into])
            else:
                assert isinstance(what, str)
                assert await store.delete(what + run) == bool(model.rows[what])
                model.rows[what] = []
            for user, rows in model.rows.items():
                expected = [entry(item, ms) for ms, _, item in rows]
                assert await store.entries(user + run, 10) == expected
    finally:
        await store.close()

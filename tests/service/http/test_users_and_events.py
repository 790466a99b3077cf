"""Events are checked one by one and acknowledged when durable; users can be read and forgotten."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.service.fakes import Stack, running


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    async with running() as started:
        yield started


async def send(stack: Stack, *events: Any) -> dict[str, Any]:
    response = await stack.client.post("/v1/events", json={"events": list(events)})
    assert response.status_code == 200, response.text
    told: dict[str, Any] = response.json()
    return told


async def history(stack: Stack, user: str) -> list[str]:
    told = (await stack.client.get(f"/v1/users/{user}/history")).json()
    assert told["length"] == len(told["items"])
    return [item["item_id"] for item in told["items"]]


BAD_EVENTS: list[tuple[Any, str]] = [
    ({"user_id": "u"}, "/item_id"),
    ({"item_id": "i"}, "/user_id"),
    (5, ""),
    ({"user_id": "u", "item_id": "i", "typ": "view"}, "/typ"),
    ({"user_id": "u", "item_id": "i", "type": "VIEW ME"}, "/type"),
    ({"user_id": "u", "item_id": "i\u0007"}, "/item_id"),
    ({"user_id": "u", "item_id": "i", "items": ["i"]}, "/items"),
    ({"user_id": "u", "item_id": "i", "type": "impression"}, "/items"),
    ({"user_id": "u", "type": "impression", "items": ["i"] * 101}, "/items"),
    ({"user_id": "u", "item_id": "i", "timestamp": "yesterday"}, "/timestamp"),
    ({"user_id": "u", "item_id": "i", "timestamp": "2026-09-01T12:00:00"}, "/timestamp"),
    ({"user_id": "u", "item_id": "i", "timestamp": -1}, "/timestamp"),
    ({"user_id": "u", "item_id": "i", "timestamp": 1.7e12}, "/timestamp"),
    ({"user_id": "u", "item_id": "i", "timestamp": True}, "/timestamp"),
    ({"user_id": "u", "item_id": "i", "timestamp": time.time() + 86_400}, "/timestamp"),
    ({"user_id": "u", "item_id": "i", "recommendation_id": "mine"}, "/recommendation_id"),
    ({"user_id": "u", "item_id": "i", "value": "much"}, "/value"),
]


@pytest.mark.parametrize(("event", "pointer"), BAD_EVENTS)
async def test_a_bad_event_is_named_and_the_good_ones_go_in(
    stack: Stack, event: Any, pointer: str
) -> None:
    told = await send(stack, {"user_id": "w", "item_id": "i1"}, event)
    assert (told["accepted"], told["rejected"]) == (1, 1)
    assert told["errors"][0]["index"] == 1
    assert told["errors"][0]["pointer"].startswith(pointer)
    assert await history(stack, "w") == ["i1"]
    assert await history(stack, "u") == []


async def test_times_may_be_rfc3339_or_seconds_and_order_the_history(stack: Stack) -> None:
    now = datetime.now(UTC)
    told = await send(
        stack,
        {"user_id": "u", "item_id": "i3", "timestamp": now.isoformat()},
        {"user_id": "u", "item_id": "i1", "timestamp": (now - timedelta(days=2)).timestamp()},
        {"user_id": "u", "item_id": "i2", "timestamp": 1_600_000_000},
        {"user_id": "u", "item_id": "i4", "timestamp": time.time() + 100},
    )
    assert told == {"accepted": 4, "duplicates": 0, "rejected": 0, "errors": []}
    assert await history(stack, "u") == ["i2", "i1", "i3", "i4"]


async def test_the_same_event_twice_is_a_duplicate(stack: Stack) -> None:
    event = {"user_id": "u", "item_id": "i1", "event_id": "e1"}
    told = await send(stack, event, event)
    assert (told["accepted"], told["duplicates"]) == (1, 1)
    assert (await send(stack, event))["duplicates"] == 1
    labels = {"type": "view", "result": "duplicate"}
    assert await stack.metric("canet_events_total", **labels) == 2


async def test_impressions_are_counted_and_never_become_history(stack: Stack) -> None:
    await send(stack, {"user_id": "u", "type": "impression", "items": ["i1", "i2", "i3"]})
    assert await history(stack, "u") == []
    labels = {"type": "impression", "result": "accepted"}
    assert await stack.metric("canet_events_total", **labels) == 1


async def test_new_events_that_name_a_recommendation_are_attributed(stack: Stack) -> None:
    told = (await stack.client.post("/recommend", json={"user_id": "u"})).json()
    event = {
        "user_id": "u",
        "item_id": told["items"][0]["item_id"],
        "type": "click",
        "event_id": "e",
        "recommendation_id": told["recommendation_id"],
    }
    await send(stack, event, event)
    labels = {"type": "click", "variant": "stable"}
    assert await stack.metric("canet_attributed_events_total", **labels) == 1


async def test_nothing_is_acknowledged_or_counted_while_the_store_is_away(stack: Stack) -> None:
    stack.store.away = True
    events = [{"user_id": "u", "item_id": "i1"}, {"bad": 1}]
    response = await stack.client.post("/v1/events", json={"events": events})
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1
    for result in ("accepted", "duplicate", "rejected"):
        labels = {"type": "view", "result": result}
        assert await stack.metric("canet_events_total", **labels) == 0


@pytest.mark.parametrize("events", [[], [{}] * 1001, "many", None])
async def test_the_list_itself_is_checked(stack: Stack, events: Any) -> None:
    response = await stack.client.post("/v1/events", json={"events": events})
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "/events"


@pytest.mark.parametrize("user", ["u", "a/b", "a/history", "ümläut ?#%", "../x", "{u}"])
async def test_users_with_any_id_can_be_written_read_merged_and_forgotten(
    stack: Stack, user: str
) -> None:
    from urllib.parse import quote

    path = f"/v1/users/{quote(user, safe='')}"
    items = [{"item_id": "i5"}, {"item_id": "i6"}]
    assert (await stack.client.put(f"{path}/history", json={"items": items})).json() == {
        "length": 2
    }
    assert [i["item_id"] for i in (await stack.client.get(f"{path}/history")).json()["items"]] == [
        "i5",
        "i6",
    ]
    told = (await stack.client.post("/recommend", json={"user_id": user, "k": 1})).json()
    assert told["items"][0]["item_id"] == "i7"
    await send(stack, {"user_id": "anonymous", "item_id": "i9"})
    merged = await stack.client.post(f"{path}/merge", json={"source_user_id": "anonymous"})
    assert merged.json() == {"length": 3}
    assert await history(stack, "anonymous") == []
    for _ in range(2):
        response = await stack.client.delete(f"{path}/history")
        assert (response.status_code, response.content) == (204, b"")
    assert (await stack.client.get(f"{path}/history")).json() == {"items": [], "length": 0}


async def test_limit_keeps_the_newest(stack: Stack) -> None:
    items = [{"item_id": f"i{place}", "timestamp": 1000 + place} for place in range(5)]
    await stack.client.put("/v1/users/u/history", json={"items": items})
    told = (await stack.client.get("/v1/users/u/history?limit=2")).json()
    assert told["items"] == [
        {"item_id": "i3", "timestamp": "1970-01-01T00:16:43.000Z"},
        {"item_id": "i4", "timestamp": "1970-01-01T00:16:44.000Z"},
    ]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"items": [{"item_id": "i"}, {"item_id": "j", "timestamp": 1}]}, "/items"),
        ({"items": [{"item_id": "i", "timestamp": "x"}]}, "/items/0/timestamp"),
        ({"items": [{"item_id": "i"}] * 1001}, "/items"),
    ],
)
async def test_a_bad_history_changes_nothing(stack: Stack, body: Any, pointer: str) -> None:
    await send(stack, {"user_id": "u", "item_id": "i1"})
    response = await stack.client.put("/v1/users/u/history", json=body)
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == pointer
    assert await history(stack, "u") == ["i1"]


async def test_nobody_merges_with_themselves(stack: Stack) -> None:
    response = await stack.client.post("/v1/users/u/merge", json={"source_user_id": "u"})
    assert response.json()["errors"][0]["pointer"] == "/source_user_id"

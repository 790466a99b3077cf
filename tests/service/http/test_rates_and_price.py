"""Rates per key with their headers; the live price; requests refused in overload."""

from __future__ import annotations

from typing import Any

import pytest

from service.overload.controller import State
from tests.service.fakes import FULL, SMALL, FakeEngine, running

ONE, OTHER, ADMIN = (f"{name}-0123456789abcdef" for name in ("one", "other", "admin"))
KEYS = f"read+write:{ONE},read:{OTHER},admin:{ADMIN}"
ASK = {"history": ["i1", "i2", "i3", "i4", "i5", "i6"]}


async def test_each_key_has_its_own_rate_and_is_told_what_is_left() -> None:
    async with running(api_keys=KEYS, rate_limit="3/d") as stack:
        told = [
            await stack.client.post("/recommend", json=ASK, headers={"x-api-key": ONE})
            for _ in range(4)
        ]
        assert [one.status_code for one in told] == [200, 200, 200, 429]
        assert [one.headers["ratelimit-remaining"] for one in told] == ["2", "1", "0", "0"]
        last = told[-1]
        assert last.headers["content-type"] == "application/problem+json"
        assert last.json()["code"] == "rate_limited"
        assert last.headers["ratelimit-limit"] == "3"
        assert 0 < int(last.headers["retry-after"]) <= 28800
        assert 0 < int(last.headers["ratelimit-reset"]) <= 86400
        other = await stack.client.post("/recommend", json=ASK, headers={"x-api-key": OTHER})
        assert other.status_code == 200
        # Strangers spend nobody's rate, and probes and metrics have none.
        stranger = await stack.client.post("/recommend", json=ASK, headers={"x-api-key": "no"})
        assert (stranger.status_code, "ratelimit-limit" in stranger.headers) == (401, False)
        assert (await stack.client.get("/metrics")).status_code == 200
        assert await stack.metric("canet_refused_total", reason="rate_limit") == 1


async def test_what_a_key_may_not_do_counts_against_its_rate_too() -> None:
    async with running(api_keys=KEYS, rate_limit="2/d") as stack:
        events = {"events": [{"user_id": "u", "item_id": "i1"}]}
        told = [
            await stack.client.post("/v1/events", json=events, headers={"x-api-key": OTHER})
            for _ in range(3)
        ]
        assert [one.status_code for one in told] == [403, 403, 429]


async def test_without_keys_an_address_has_the_rate() -> None:
    async with running(rate_limit="1/d") as stack:
        assert (await stack.client.post("/recommend", json=ASK)).status_code == 200
        assert (await stack.client.get("/v1/model")).status_code == 429


async def test_without_a_limit_there_are_no_headers_of_one() -> None:
    async with running() as stack:
        assert "ratelimit-limit" not in (await stack.client.post("/recommend", json=ASK)).headers


async def price(stack: Any, **body: Any) -> dict[str, Any]:
    headers = {"x-api-key": ADMIN}
    path = "/v1/admin/price"
    response = await (
        stack.client.put(path, json=body, headers=headers)
        if body
        else stack.client.get(path, headers=headers)
    )
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def test_the_price_is_set_told_and_taken_back() -> None:
    async with running(api_keys=KEYS) as stack:
        assert await price(stack) == {
            "price": 0.1,
            "set_price": None,
            "surcharge": 0.0,
            "reason": "published",
            "pressure": 0.0,
        }
        told = await price(stack, price=2.5)
        assert (told["price"], told["set_price"], told["reason"]) == (2.5, 2.5, "set")
        assert await stack.metric("canet_compute_price") == 2.5
        assert await stack.metric("canet_compute_price_reason", reason="set") == 1
        assert await stack.metric("canet_compute_price_reason", reason="published") == 0
        assert (await price(stack, price=None))["price"] == 0.1


@pytest.mark.parametrize("wrong", [-1, "1", 1e7, True, {}])
async def test_a_wrong_price_changes_nothing(wrong: Any) -> None:
    async with running(api_keys=KEYS) as stack:
        response = await stack.client.put(
            "/v1/admin/price", json={"price": wrong}, headers={"x-api-key": ADMIN}
        )
        assert response.status_code == 422
        assert (await price(stack))["reason"] == "published"
        for key in (ONE, OTHER):
            response = await stack.client.put(
                "/v1/admin/price", json={"price": 1}, headers={"x-api-key": key}
            )
            assert response.status_code == 403


async def test_answers_shrunk_by_overload_say_so_and_are_counted() -> None:
    async with running(engine=FakeEngine(), objective_ms=100) as stack:
        overload = stack.app.state.services.overload
        told = (await stack.client.post("/recommend", json=ASK)).json()
        assert (told["compute"]["submodel"], told["degraded"]) == (FULL.name, [])
        while overload.state.pressure < 1:
            with overload.admit():
                overload.tick(0.5)  # the event loop was half a second late
        told = (await stack.client.post("/recommend", json=ASK)).json()
        assert told["compute"]["submodel"] == SMALL.name
        assert told["compute"]["reason"] == "overload"
        assert told["degraded"] == ["overload"]
        assert await stack.metric("canet_degraded_total", reason="overload") == 1
        assert await stack.metric("canet_router_overrides_total", reason="overload") == 1
        # Whoever names a network gets it: the price is for those who leave the choice to us.
        told = await stack.client.post("/recommend", json={**ASK, "compute": {"mode": "full"}})
        assert told.json()["degraded"] == []


async def test_without_room_a_request_is_refused_before_it_is_read() -> None:
    async with running() as stack:
        services = stack.app.state.services
        services.overload._state = State(pressure=1.0, admitted=0)
        unread = await stack.client.post("/recommend", content=b"{not json")
        assert (unread.status_code, unread.json()["code"]) == (429, "overloaded")
        assert unread.headers["retry-after"] == "1"
        assert (await stack.client.get("/v1/items/i1/similar")).status_code == 429
        assert await stack.metric("canet_refused_total", reason="overload") == 2
        # What needs no network is answered all the same.
        events = {"events": [{"user_id": "u", "item_id": "i1"}]}
        assert (await stack.client.post("/v1/events", json=events)).status_code == 200

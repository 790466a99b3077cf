"""What a caller of /recommend sees: their writes, honest flags, exact costs."""

from __future__ import annotations

import asyncio
import random
import re
import threading
from collections import Counter
from typing import Any

import pytest

from service.ulid import PATTERN
from tests.service.fakes import CATALOG, FakeEngine, Stack, running


async def ask(stack: Stack, **body: Any) -> dict[str, Any]:
    response = await stack.client.post("/recommend", json=body)
    assert response.status_code == 200, response.text
    told: dict[str, Any] = response.json()
    return told


async def view(stack: Stack, user: str, *items: str) -> dict[str, Any]:
    events = [{"user_id": user, "item_id": item} for item in items]
    response = await stack.client.post("/v1/events", json={"events": events})
    assert response.status_code == 200, response.text
    told: dict[str, Any] = response.json()
    return told


async def test_an_event_shows_in_the_very_next_answer() -> None:
    async with running() as stack:
        assert (await ask(stack, user_id="u"))["source"] == "popular"
        for item in ("i7", "i40", "i3"):
            await view(stack, "u", item)
            told = await ask(stack, user_id="u", k=1)
            assert told["source"] == "model"
            after = CATALOG[CATALOG.index(item) + 1]
            assert told["items"] == [{"item_id": after, "rank": 1}]


async def test_an_unknown_user_gets_popular_items_and_costs_nothing() -> None:
    async with running() as stack:
        told = await ask(stack, user_id="nobody", k=2)
        assert told["source"] == "popular"
        assert told["degraded"] == []
        assert told["compute"] == {
            "submodel": None,
            "flops": 0,
            "flops_full": 0,
            "saved_ratio": 0.0,
            "reason": "no_history",
        }
        assert await stack.metric("canet_compute_flops_total", part="encoder") == 0


async def test_an_inline_history_leaves_the_store_alone() -> None:
    async with running() as stack:
        told = await ask(stack, history=["i1", "ghost"], user_id="u")
        assert told["source"] == "model"
        assert told["missing_items"] == ["ghost"]
        assert stack.store.reads == 0
        assert await stack.metric("canet_unknown_items_total") == 1


async def test_both_paths_answer_alike_and_ids_are_unique_and_well_formed() -> None:
    async with running() as stack:
        seen = set()
        for path in ("/recommend", "/v1/recommend"):
            response = await stack.client.post(path, json={"history": ["i1"]})
            told = response.json()
            seen.add(told.pop("recommendation_id"))
            assert told["items"][0]["item_id"] == "i2"
            assert response.headers["x-model-version"] == "v1"
            stages = re.findall(r"(\w+);dur=", response.headers["server-timing"])
            assert stages == ["queue", "route", "encode", "score", "serialise"]
        assert len(seen) == 2
        assert all(re.match(PATTERN, one) for one in seen)


async def test_the_store_being_away_degrades_and_never_fails() -> None:
    async with running() as stack:
        await view(stack, "u", "i1")
        stack.store.away = True
        told = await ask(stack, user_id="u")
        assert (told["source"], told["degraded"]) == ("popular", ["redis_down"])
        assert await stack.metric("canet_degraded_total", reason="redis_down") == 1
        stack.store.away = False
        assert (await ask(stack, user_id="u"))["degraded"] == []


async def test_a_late_store_or_engine_gives_popular_items_in_time() -> None:
    gate = threading.Event()
    engine = FakeEngine(gate=gate)
    async with running(engine=engine) as stack:
        told = await ask(stack, history=["i1"], compute={"deadline_ms": 20})
        assert (told["source"], told["degraded"]) == ("popular", ["deadline"])
        assert told["compute"]["reason"] == "deadline"
        assert "i1" not in [item["item_id"] for item in told["items"]]
        gate.set()
        stack.store.pause_seconds = 5
        told = await ask(stack, user_id="u", compute={"deadline_ms": 20})
        assert (told["source"], told["degraded"]) == ("popular", ["deadline"])
        # The late network was paid for, but no answer came of it that could have saved anything.
        assert await stack.metric("canet_compute_flops_total", part="encoder") == 10
        assert await stack.metric("canet_compute_baseline_flops_total", part="encoder") == 0


async def test_a_full_queue_is_a_429_with_a_time_to_come_back() -> None:
    gate = threading.Event()
    engine = FakeEngine(gate=gate)
    async with running(engine=engine, queue_limit=1, max_batch=1) as stack:
        first = asyncio.create_task(ask(stack, history=["i1"]))
        await asyncio.to_thread(engine.entered.wait, 5)
        second = asyncio.create_task(ask(stack, history=["i2"]))
        for _ in range(1000):
            if await stack.metric("canet_queue_depth") == 1:
                break
            await asyncio.sleep(0.001)
        response = await stack.client.post("/recommend", json={"history": ["i3"]})
        assert response.status_code == 429
        assert response.json()["code"] == "overloaded"
        assert int(response.headers["retry-after"]) >= 1
        gate.set()
        await asyncio.gather(first, second)
        assert await stack.metric("canet_queue_rejected_total") == 1


async def test_a_short_list_says_so() -> None:
    async with running() as stack:
        told = await ask(stack, history=["i1"], candidates=["i2", "nope"], k=5)
        assert [item["item_id"] for item in told["items"]] == ["i2"]
        assert told["degraded"] == ["short_list"]
        assert told["missing_items"] == ["nope"]


async def test_what_is_included_is_what_was_asked_for() -> None:
    async with running() as stack:
        told = await ask(stack, history=["i1"], k=1, include=["scores", "attributes", "explain"])
        assert told["items"] == [
            {
                "item_id": "i2",
                "rank": 1,
                "score": 1.0,
                "attributes": {"title": "Title of i2"},
            }
        ]
        assert told["explain"]["history_source"] == "request"
        assert sum(told["explain"]["flops_by_part"].values()) == told["compute"]["flops"]


async def test_the_counters_are_the_sum_over_the_answers_exactly() -> None:
    generator = random.Random(5)
    async with running() as stack:
        for user in range(20):
            await view(stack, f"u{user}", *generator.sample(CATALOG, generator.randint(1, 12)))

        async def one() -> list[dict[str, Any]]:
            choice = generator.random()
            if choice < 0.4:
                return [await ask(stack, user_id=f"u{generator.randrange(30)}")]
            if choice < 0.6:
                mode = generator.choice(["auto", "full"])
                return [await ask(stack, history=["i5", "i6"], compute={"mode": mode})]
            if choice < 0.7:
                await stack.client.post("/recommend", json={"k": 0})
                return []
            requests = [{"history": ["i1"]}, {"user_id": "u1"}, {"k": 0}, {"user_id": "ghost"}]
            response = await stack.client.post("/v1/recommend/batch", json={"requests": requests})
            return [entry["result"] for entry in response.json()["results"] if "result" in entry]

        told = [a for batch in await asyncio.gather(*(one() for _ in range(200))) for a in batch]
        spent = {
            part: await stack.metric("canet_compute_flops_total", part=part)
            for part in ("router", "encoder", "scoring")
        }
        full = {
            part: await stack.metric("canet_compute_baseline_flops_total", part=part)
            for part in ("router", "encoder", "scoring")
        }
        assert sum(value or 0 for value in spent.values()) == sum(
            answer["compute"]["flops"] for answer in told
        )
        assert sum(value or 0 for value in full.values()) == sum(
            answer["compute"]["flops_full"] for answer in told
        )
        submodels = Counter(a["compute"]["submodel"] for a in told if a["source"] == "model")
        for name, count in submodels.items():
            assert await stack.metric("canet_submodel_requests_total", submodel=name) == count
        for source in ("model", "popular"):
            labels = {"source": source, "variant": "stable"}
            assert await stack.metric("canet_recommendations_total", **labels) == sum(
                answer["source"] == source for answer in told
            )
        assert len(submodels) == 2


async def test_a_batch_answers_each_on_its_own_in_order() -> None:
    async with running() as stack:
        requests = [{"history": ["i1"], "k": 1}, {"k": 0}, {"history": ["i5"], "k": 1}, 7]
        response = await stack.client.post("/v1/recommend/batch", json={"requests": requests})
        assert response.status_code == 200
        first, second, third, fourth = response.json()["results"]
        assert first["result"]["items"][0]["item_id"] == "i2"
        assert second["problem"]["code"] == "validation_failed"
        assert "/k" in [error["pointer"] for error in second["problem"]["errors"]]
        assert third["result"]["items"][0]["item_id"] == "i6"
        assert fourth["problem"]["status"] == 422
        for size in (0, 129):
            body = {"requests": [{"user_id": "u"}] * size}
            response = await stack.client.post("/v1/recommend/batch", json=body)
            assert response.json()["errors"][0]["pointer"] == "/requests"


async def test_similar_items_may_have_slashes_in_their_ids() -> None:
    async with running() as stack:
        for path in ("a%2Fb", "a/b", "%C3%A9/%3F"):
            response = await stack.client.get(f"/v1/items/{path}/similar", params={"k": 3})
            assert response.status_code == 200, response.text
            assert [item["rank"] for item in response.json()["items"]] == [1, 2, 3]


@pytest.mark.parametrize("users", [40])
async def test_concurrent_users_never_see_each_other(users: int) -> None:
    async with running(max_batch=7) as stack:
        for user in range(users):
            await view(stack, f"u{user}", CATALOG[user])

        async def check(user: int) -> None:
            told = await ask(stack, user_id=f"u{user}", k=1)
            assert told["items"][0]["item_id"] == CATALOG[user + 1]

        await asyncio.gather(*(check(user % users) for user in range(users * 5)))

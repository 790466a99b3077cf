"""A click counts for what was shown: across replicas, after a swap, and never for the forgotten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from tests.e2e.live import Live, ids, live, until
from tests.models.published import publish_random

USERS = [f"u{number}" for number in range(12)]


async def report(service: Live, user: str, answer: dict[str, Any], *, kind: str = "click") -> None:
    """Say that the first item was clicked, or that every one was shown."""
    event: dict[str, Any] = {
        "user_id": user,
        "type": kind,
        "recommendation_id": answer["recommendation_id"],
    }
    event |= {"items": ids(answer)} if kind == "impression" else {"item_id": ids(answer)[0]}
    response = await service.client.post("/v1/events", json={"events": [event]})
    assert response.json()["accepted"] == 1, response.text


def remembered(service: Live) -> float:
    return service.metric("recommendation_records_total", result="kept")


async def test_what_one_replica_recommended_is_booked_by_another_though_the_candidate_is_gone(
    tmp_path: Path, redis_url: str
) -> None:
    second = publish_random(tmp_path, seed=1)
    publish_random(tmp_path, seed=0)
    sides = {"candidate_version": second, "candidate_percent": 50}
    async with (
        live(tmp_path, redis_url, **sides) as asked,
        live(tmp_path, redis_url) as told,  # knows no candidate
    ):
        await until(lambda: bool(asked.value("model_info", variant="candidate", version=second)))
        for user in USERS:
            await asked.tell(user, "item-3", "item-9")
        answers = {user: await asked.recommend(user_id=user) for user in USERS}
        await until(lambda: remembered(asked) == len(USERS))
        for user, answer in answers.items():
            await report(told, user, answer, kind="impression")
            await report(told, user, answer)
        for variant in ("stable", "candidate"):
            mine = [one for one in answers.values() if one["variant"] == variant]
            assert mine, variant
            clicks = told.metric("attributed_events_total", type="click", variant=variant)
            assert clicks == len(mine)
            shown = told.metric("impressions_total", variant=variant)
            assert shown == sum(len(one["items"]) for one in mine)
        for name in {one["compute"]["submodel"] for one in answers.values()}:
            mine = [one for one in answers.values() if one["compute"]["submodel"] == name]
            assert told.metric("submodel_attributed_events_total", submodel=name) == len(mine)


async def test_a_forgotten_users_recommendations_are_forgotten(
    tmp_path: Path, redis_url: str
) -> None:
    publish_random(tmp_path, seed=0)
    async with live(tmp_path, redis_url) as service, Redis.from_url(redis_url) as raw:
        await service.tell("ada", "item-3")
        answer = await service.recommend(user_id="ada")
        await until(lambda: remembered(service) == 1)
        assert await raw.keys("canet:1:{u:ada}:i")
        assert (await service.client.delete("/v1/users/ada/history")).status_code == 204
        assert await raw.keys("canet:1:{u:ada}:i") == []
        await report(service, "ada", answer)
        labels = {"type": "click", "reason": "unknown"}
        assert service.metric("unattributed_events_total", **labels) == 1
        assert service.metric("attributed_events_total", type="click", variant="stable") == 0


async def test_a_cached_answer_counts_for_the_submodel_that_computed_it(
    tmp_path: Path, redis_url: str
) -> None:
    publish_random(tmp_path, seed=0)
    async with live(tmp_path, redis_url, result_ttl=60) as service:
        for user in ("ada", "bob"):
            await service.tell(user, "item-3", "item-9")
        computed = await service.recommend(user_id="ada")
        cached = await service.recommend(user_id="bob")
        assert (computed["source"], cached["source"]) == ("model", "cache")
        await report(service, "bob", cached)
        name = computed["compute"]["submodel"]
        assert service.metric("submodel_attributed_events_total", submodel=name) == 1

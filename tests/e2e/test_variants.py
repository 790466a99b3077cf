"""Candidate and shadow end to end: real checkpoints, real answers, separate accounts."""

from __future__ import annotations

import shutil
from pathlib import Path

from models.checkpoint.store import current, set_current
from service.engine.contract import Query
from service.ulid import tag_of
from tests.e2e.live import Live, engine_of, ids, live, until
from tests.models.published import publish_random

HISTORY = ["item-3", "item-9", "item-1"]
USERS = [f"u{number}" for number in range(40)]


async def ask_all(service: Live) -> dict[str, dict[str, object]]:
    return {user: await service.recommend(user_id=user, history=HISTORY) for user in USERS}


async def test_a_candidate_answers_its_users_and_is_promoted(
    tmp_path: Path, redis_url: str
) -> None:
    second = publish_random(tmp_path, seed=1)
    first = publish_random(tmp_path, seed=0)
    truth = {
        version: [
            item.external_id
            for item in engine_of(tmp_path, version)
            .recommend([Query(history=tuple(HISTORY))])[0][0]
            .items
        ]
        for version in (first, second)
    }
    assert truth[first] != truth[second]
    async with live(tmp_path, redis_url, candidate_version=second, candidate_percent=50) as service:
        await until(lambda: bool(service.value("model_info", variant="candidate", version=second)))
        answers = await ask_all(service)
        variants = {user: answer["variant"] for user, answer in answers.items()}
        assert set(variants.values()) == {"stable", "candidate"}
        for answer in answers.values():
            version = second if answer["variant"] == "candidate" else first
            assert answer["model_version"] == version
            assert str(answer["recommendation_id"])[10:14] == tag_of(version)
            assert ids(answer) == truth[version]
        again = await ask_all(service)
        assert {user: answer["variant"] for user, answer in again.items()} == variants
        assert service.metric("recommendations_total", source="model", variant="candidate") > 0
        # Nobody to be sticky for.
        assert (await service.recommend(history=HISTORY))["variant"] == "stable"

        told = (await service.client.get("/v1/model")).json()
        assert told["traffic"] == {"stable": 50.0, "candidate": 50.0, "shadow": 0.0}
        assert told["sides"]["candidate"]["version"] == second
        assert told["sides"]["candidate"]["recommendation_tag"] == tag_of(second)
        assert told["recommendation_tag"] == tag_of(first) != tag_of(second)

        done = await service.client.put("/v1/admin/traffic", json={"candidate_percent": 0})
        assert done.json()["traffic"]["stable"] == 100.0
        assert {answer["variant"] for answer in (await ask_all(service)).values()} == {"stable"}

        promoted = await service.client.post("/v1/admin/model/promote")
        assert (promoted.status_code, promoted.json()["version"]) == (200, second)
        assert promoted.json()["sides"]["candidate"]["version"] is None
        assert current(tmp_path) == second
        answer = await service.recommend(history=HISTORY)
        assert (answer["variant"], ids(answer)) == ("stable", truth[second])
        without = await service.client.post("/v1/admin/model/promote")
        assert (without.status_code, without.json()["code"]) == (422, "reload_refused")


async def test_a_shadow_is_compared_and_counted_apart(tmp_path: Path, redis_url: str) -> None:
    other = publish_random(tmp_path, seed=1)
    first = publish_random(tmp_path, seed=0)
    async with live(tmp_path, redis_url) as service:
        before = await service.recommend(user_id="u", history=HISTORY)
        spent = service.metric("compute_flops_total", part="encoder")
        asked = 0

        def compared() -> bool:
            return service.metric("shadow_requests_total", result="compared") == asked

        for version in (other, first):
            body = {"version": version, "as": "shadow"}
            done = await service.client.post("/v1/admin/model/reload", json=body)
            assert done.json()["sides"]["shadow"]["version"] == version
            await service.client.put("/v1/admin/traffic", json={"shadow_percent": 100})
            answer = await service.recommend(user_id="u", history=HISTORY)
            assert (answer["variant"], ids(answer)) == ("stable", ids(before))
            asked += 1
            await until(compared)
        assert service.metric("shadow_overlap_ratio_count") == 2
        # The second shadow is the stable version itself and agrees with it wholly.
        full = service.metric("shadow_overlap_ratio_bucket", le="1.0") - service.metric(
            "shadow_overlap_ratio_bucket", le="0.9"
        )
        assert full >= 1
        shadow = {"variant": "shadow", "submodel": answer["compute"]["submodel"]}
        assert service.metric("inference_flops_total", **shadow) > 0
        # Three answers of the same query cost three times one of them, shadow or not.
        assert service.metric("compute_flops_total", part="encoder") == 3 * spent
        done = await service.client.post("/v1/admin/model/unload", json={"as": "shadow"})
        assert done.json()["sides"]["shadow"]["version"] is None


async def test_a_candidate_that_is_refused_hurts_nobody(tmp_path: Path, redis_url: str) -> None:
    bad = publish_random(tmp_path, seed=1)
    tensors = tmp_path / bad / "model.safetensors"
    content = bytearray(tensors.read_bytes())
    content[len(content) // 2] ^= 1
    tensors.write_bytes(content)
    first = publish_random(tmp_path, seed=0)
    async with live(tmp_path, redis_url, candidate_version=bad, candidate_percent=100) as service:
        await until(lambda: service.metric("model_reloads_total", result="refused") >= 1)
        answer = await service.recommend(user_id="u", history=HISTORY)
        assert (answer["variant"], answer["model_version"]) == ("stable", first)
        ready = await service.client.get("/readyz")
        assert ready.status_code == 200
        assert "model.safetensors" in ready.json()["detail"]["candidate"]
        load = await service.client.post(
            "/v1/admin/model/reload", json={"version": bad, "as": "candidate"}
        )
        assert (load.status_code, load.json()["code"]) == (422, "reload_refused")
        missing = await service.client.post("/v1/admin/model/reload", json={"as": "candidate"})
        assert (missing.status_code, missing.json()["code"]) == (422, "validation_failed")


async def test_a_restart_on_a_damaged_current_serves_the_older_version_and_says_so(
    tmp_path: Path, redis_url: str
) -> None:
    first = publish_random(tmp_path, seed=0)
    second = publish_random(tmp_path, seed=1)
    spare = shutil.copytree(tmp_path / second, tmp_path / ".spare")
    (tmp_path / second / "items.jsonl").write_bytes(b"")
    async with live(tmp_path, redis_url) as service:
        ready = (await service.client.get("/readyz")).json()
        assert (ready["status"], ready["checks"]["model"]) == ("ready", "fallback")
        assert second in ready["detail"]["model"]
        told = (await service.client.get("/v1/model")).json()
        assert (told["version"], told["fallback"]) == (first, True)
        assert "items.jsonl" in told["problem"]
        assert service.metric("model_fallback") == 1
        shutil.rmtree(tmp_path / second)
        spare.rename(tmp_path / second)
        set_current(tmp_path, second)
        await until(lambda: service.metric("model_fallback") == 0)
        told = (await service.client.get("/v1/model")).json()
        assert (told["version"], told["problem"]) == (second, None)

"""The blocklist over HTTP: who may change it, what it changes at once, and who did it."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from typing import Any

import pytest

from service.logs import JsonFormatter
from tests.service.fakes import FakeEngine, Stack, running

ADMIN = "admin-key-0123456789"
READER = "reader-key-0123456789"
KEYS = f"read+write+admin:{ADMIN},read:{READER}"
PATH = "/v1/admin/blocklist"


async def call(stack: Stack, method: str, *, key: str = ADMIN, **body: Any) -> dict[str, Any]:
    response = await stack.client.request(
        method, PATH, headers={"X-API-Key": key}, json=body or None
    )
    found: dict[str, Any] = {"status": response.status_code, **response.json()}
    return found


async def shown(stack: Stack, **body: Any) -> list[str]:
    response = await stack.client.post("/recommend", headers={"X-API-Key": ADMIN}, json=body)
    assert response.status_code == 200, response.text
    return [item["item_id"] for item in response.json()["items"]]


async def test_a_blocked_item_is_in_no_answer_from_then_on_and_shown_again_when_unblocked() -> None:
    async with running(api_keys=KEYS, result_ttl=60) as stack:
        asked: dict[str, Any] = {"history": ["i1"], "k": 2}
        assert await shown(stack, **asked) == ["i2", "i3"]
        assert await shown(stack, **asked) == ["i2", "i3"]
        done = await call(stack, "POST", add=["i2"])
        assert (done["status"], done["added"], done["size"]) == (200, 1, 1)
        assert await shown(stack, **asked) == ["i3", "i4"], "not from the cache either"
        assert await shown(stack, user_id="nobody", k=2) == ["i1", "i3"]
        assert await shown(stack, history=["i1"], candidates=["i2", "i7"], k=2) == ["i7"]
        batch = await stack.client.post(
            "/v1/recommend/batch", headers={"X-API-Key": ADMIN}, json={"requests": [asked]}
        )
        assert batch.json()["results"][0]["result"]["items"][0]["item_id"] == "i3"
        similar = await stack.client.get("/v1/items/i9/similar?k=2", headers={"X-API-Key": ADMIN})
        assert [item["item_id"] for item in similar.json()["items"]] == ["i1", "i3"]
        assert await stack.metric("canet_blocklist_items") == 1
        assert (await stack.metric("canet_blocklist_read_timestamp_seconds") or 0) > 1.7e9
        done = await call(stack, "POST", remove=["i2"], add=["i4"])
        assert (done["added"], done["removed"]) == (1, 1)
        assert await shown(stack, **asked) == ["i2", "i3"]
        listed = await call(stack, "GET")
        assert [item["item_id"] for item in listed["items"]] == ["i4"]
        assert (listed["size"], listed["limit"], listed["revision"]) == (
            1,
            10_000,
            done["revision"],
        )
        assert (await call(stack, "PUT", items=["i9", "i8"]))["size"] == 2
        assert (await call(stack, "PUT", items=[]))["removed"] == 2


async def test_a_late_answer_holds_to_it_too() -> None:
    gate = threading.Event()
    async with running(api_keys=KEYS, engine=FakeEngine(gate=gate)) as stack:
        await call(stack, "POST", add=["i2"])
        found = await shown(stack, history=["i1"], k=2, compute={"deadline_ms": 20})
        assert found == ["i3", "i4"]
        stack.store.away = True
        assert await shown(stack, user_id="regular", k=2) == ["i1", "i3"]
        gate.set()


async def test_only_an_admin_key_reads_or_changes_it() -> None:
    async with running(api_keys=KEYS) as stack:
        for method in ("GET", "POST", "PUT"):
            assert (await call(stack, method, key=READER, add=["i1"]))["status"] == 403
            assert (await call(stack, method, key="wrong", add=["i1"]))["status"] == 401
    async with running() as stack:
        assert (await call(stack, "GET"))["status"] == 404, "no admin key, no admin route"


@pytest.mark.parametrize(
    ("method", "body", "pointer"),
    [
        ("POST", {"add": ["a"], "remove": ["a"]}, "/remove"),
        ("POST", {"add": ["a", "a"]}, "/add/1"),
        ("POST", {"add": [], "remove": []}, "/add"),
        ("POST", {"add": [""]}, "/add/0"),
        ("POST", {"add": ["x" * 257]}, "/add/0"),
        ("POST", {"add": ["a", "b", "c", "d"]}, "/add"),
        ("PUT", {"items": ["a", "b", "c", "d"]}, "/items"),
        ("PUT", {"add": ["a"]}, "/items"),
    ],
)
async def test_what_cannot_be_is_named_and_changes_nothing(
    method: str, body: dict[str, Any], pointer: str
) -> None:
    async with running(api_keys=KEYS, blocklist_max=3) as stack:
        found = await call(stack, method, **body)
        assert (found["status"], found["code"]) == (422, "validation_failed")
        assert found["errors"][0]["pointer"].startswith(pointer)
        assert (await call(stack, "GET"))["size"] == 0


async def test_every_change_is_audited_whatever_the_log_level(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "level", logging.ERROR)
    async with running(api_keys=KEYS) as stack:
        await call(stack, "POST", add=["i2"])
        await call(stack, "PUT", items=["i3"])
    lines = [
        json.loads(JsonFormatter().format(record))
        for record in caplog.records
        if record.name == "canet.audit"
    ]
    assert [line["what"] for line in lines] == ["blocklist"] * 2
    assert (lines[0]["add"], lines[0]["added"], lines[0]["size"]) == (["i2"], 1, 1)
    assert (lines[1]["replace"], lines[1]["removed"]) == (["i3"], 1)
    assert all(line["request_id"] for line in lines)
    assert len({line["key"] for line in lines}) == 1
    assert ADMIN not in json.dumps(lines)


async def test_readiness_tells_of_it() -> None:
    async with running(api_keys=KEYS) as stack:
        async with asyncio.timeout(30):
            while (await stack.client.get("/readyz")).json()["checks"]["blocklist"] != "ok":  # noqa: ASYNC110
                await asyncio.sleep(0.01)

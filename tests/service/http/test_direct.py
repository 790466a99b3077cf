"""The shortcut answers as the framework would, and what is sent is what is documented."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from service.http.answers import BatchAnswer, RecommendAnswer
from service.http.direct import Direct
from service.http.routing import shortcuts
from service.settings import Settings
from service.ulid import RandomBytes, Ulids
from tests.service.fakes import Stack, running

VARYING = {"server-timing", "x-request-id"}
ASKED: list[tuple[str, Any]] = [
    ("/recommend", {"history": ["i1", "nope"], "k": 3, "include": ["scores", "attributes"]}),
    ("/recommend", {"history": ["i1"], "k": 0}),
    ("/v1/recommend", {"user_id": "u", "include": ["explain"]}),
    ("/v1/recommend/batch", {"requests": [{"history": ["i1"]}, {"k": 1}]}),
    ("/v1/events", {"events": [{"user_id": "u", "item_id": "i1", "timestamp": 1}]}),
]


async def ask(stack: Stack, method: str, path: str, **parts: Any) -> tuple[int, Any, set[str]]:
    response = await stack.client.request(method, path, **parts)
    answer = response.json()
    for part in (answer, answer.get("compute", {})):
        for name in ("recommendation_id", "request_id", "explain"):
            part.pop(name, None)
    for one in answer.get("results", ()):
        for part in one.values():
            part.pop("recommendation_id", None)
            part.pop("request_id", None)
    return response.status_code, answer, set(response.headers) - VARYING


@pytest.mark.parametrize("keys", [(), "read+write:" + "k" * 16])
@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize(("path", "body"), ASKED)
async def test_the_shortcut_answers_as_the_framework_does(
    path: str, body: Any, method: str, keys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.model_validate({"deadline_ms": 5000, "api_keys": keys})
    async with running(settings) as stack:
        direct = await ask(stack, method, path, json=body)
    monkeypatch.setattr(Direct, "__call__", lambda self, *call: self._app(*call))
    async with running(settings) as stack:
        assert await ask(stack, method, path, json=body) == direct


def test_shortcuts_are_the_routes_that_take_only_a_body() -> None:
    assert set(shortcuts()) >= {("POST", "/recommend"), ("POST", "/v1/events")}
    assert not any("{" in path for _, path in shortcuts())


@pytest.mark.parametrize(
    "asked",
    [
        {"history": ["i1", "nope"], "include": ["scores", "attributes", "explain"]},
        {"user_id": "nobody"},
        {"history": ["i1"], "candidates": ["i2"], "k": 5},
    ],
)
async def test_answers_have_the_documented_form(asked: dict[str, Any]) -> None:
    async with running() as stack:
        response = await stack.client.post("/recommend", json=asked)
        RecommendAnswer.model_validate_json(response.content, strict=True)
        batch = await stack.client.post(
            "/v1/recommend/batch", json={"requests": [asked, {"k": "x"}]}
        )
        results = BatchAnswer.model_validate_json(batch.content, strict=True).results
    assert results[0].result is not None
    assert results[1].problem is not None


async def test_the_body_limit_counts_what_is_chunked_whatever_was_announced() -> None:
    async with running(max_body=1024) as stack:
        request = httpx.Request(
            "POST",
            "http://test/recommend",
            content=b" " * 2000,
            headers={"content-length": "10", "transfer-encoding": "chunked"},
        )
        response = await stack.client.send(request)
        assert response.status_code == 413


def test_ids_are_unique_sortable_by_time_and_random_bytes_never_repeat() -> None:
    new_id, random = Ulids(), RandomBytes()
    ids = [new_id() for _ in range(2000)]
    assert len(set(ids)) == len(ids)
    assert [one[:10] for one in ids] == sorted(one[:10] for one in ids)
    blocks = [random(10) for _ in range(2000)]
    assert len(set(blocks)) == len(blocks)
    assert {len(block) for block in blocks} == {10}

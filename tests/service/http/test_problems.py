"""Every failure has one shape: RFC 9457 problem+json that names the field and leaks nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from service.http.problems import KINDS
from service.http.routing import ENDPOINTS
from tests.service.fakes import FakeEngine, Stack, running

JSON = {"content-type": "application/json"}
SHAPE = {"type", "title", "status", "detail", "instance", "request_id", "code", "errors"}


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    async with running(max_body=64 * 1024) as started:
        yield started


def assert_problem(
    response: httpx.Response, status: int, code: str, pointer: str | None = None
) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    told = response.json()
    assert set(told) == SHAPE
    assert told["status"] == status
    assert told["code"] == code
    assert told["request_id"] == response.headers["x-request-id"]
    assert "secret internals" not in response.text
    assert "Traceback" not in response.text
    assert KINDS[code].status == status
    for error in told["errors"]:
        assert set(error) == {"pointer", "code", "detail"}
    if pointer is not None:
        assert pointer in [error["pointer"] for error in told["errors"]], told
    assert ("retry-after" in response.headers) == (KINDS[code].retry_after is not None)


ID_LIST = [f"i{place}" for place in range(1001)]

BAD_BODIES: list[tuple[dict[str, Any], str]] = [
    ({}, "/user_id"),
    ({"user_id": 5}, "/user_id"),
    ({"user_id": ""}, "/user_id"),
    ({"user_id": None}, "/user_id"),
    ({"user_id": "u" * 257}, "/user_id"),
    ({"user_id": "a\x00b"}, "/user_id"),
    ({"user_id": "a\nb"}, "/user_id"),
    ({"user_id": "a\x85b"}, "/user_id"),
    ({"user_id": "a\u2028b"}, "/user_id"),
    ({"history": "i1"}, "/history"),
    ({"history": [1]}, "/history/0"),
    ({"history": ["i1", ""]}, "/history/1"),
    ({"history": ["i1\x1b[31m"]}, "/history/0"),
    ({"history": ID_LIST}, "/history"),
    ({"history": ["x"] * 10_001}, "/history"),
    ({"user_id": "u", "k": 0}, "/k"),
    ({"user_id": "u", "k": -1}, "/k"),
    ({"user_id": "u", "k": 501}, "/k"),
    ({"user_id": "u", "k": 1.5}, "/k"),
    ({"user_id": "u", "k": "10"}, "/k"),
    ({"user_id": "u", "k": True}, "/k"),
    ({"user_id": "u", "k": 10**30}, "/k"),
    ({"user_id": "u", "exclude_seen": "yes"}, "/exclude_seen"),
    ({"user_id": "u", "exclude_items": ["a", "b", "a"]}, "/exclude_items/2"),
    ({"user_id": "u", "exclude_items": ID_LIST}, "/exclude_items"),
    ({"user_id": "u", "candidates": []}, "/candidates"),
    ({"user_id": "u", "candidates": ["a", "a"]}, "/candidates/1"),
    ({"user_id": "u", "candidates": ["c"] * 2001}, "/candidates"),
    ({"user_id": "u", "surprise": 1}, "/surprise"),
    ({"user_id": "u", "filter": {"must": [{"field": "genres"}]}}, "/filter/must/0/any_of"),
    (
        {"user_id": "u", "filter": {"must": [{"field": "colour", "any_of": ["red"]}]}},
        "/filter/must/0/field",
    ),
    (
        {"user_id": "u", "filter": {"must_not": [{"field": "genres", "any_of": ["x"] * 101}]}},
        "/filter/must_not/0/any_of",
    ),
    (
        {
            "user_id": "u",
            "filter": {
                "must": [{"field": "genres", "any_of": ["x"]}] * 6,
                "must_not": [{"field": "genres", "any_of": ["x"]}] * 5,
            },
        },
        "/filter",
    ),
    ({"user_id": "u", "compute": {"mode": "fast"}}, "/compute/mode"),
    ({"user_id": "u", "compute": {"mode": "fixed"}}, "/compute/submodel"),
    ({"user_id": "u", "compute": {"submodel": "d1-w16-e16"}}, "/compute/submodel"),
    (
        {"user_id": "u", "compute": {"mode": "fixed", "submodel": "d9-w9-e9"}},
        "/compute/submodel",
    ),
    ({"user_id": "u", "compute": {"max_ratio": 1.5}}, "/compute/max_ratio"),
    ({"user_id": "u", "compute": {"mode": "full", "max_ratio": 0.5}}, "/compute/max_ratio"),
    ({"user_id": "u", "compute": {"deadline_ms": 1}}, "/compute/deadline_ms"),
    ({"user_id": "u", "include": ["scores", "scores"]}, "/include/1"),
    ({"user_id": "u", "include": ["everything"]}, "/include/0"),
    ({"user_id": "u", "scenario": "a b"}, "/scenario"),
]


@pytest.mark.parametrize(
    ("body", "pointer"), BAD_BODIES, ids=[f"{n}-{p}" for n, (_, p) in enumerate(BAD_BODIES)]
)
async def test_a_wrong_field_is_named(stack: Stack, body: dict[str, Any], pointer: str) -> None:
    # The limit on bytes must not answer for the limit on lists.
    response = await stack.client.post("/recommend", json=body)
    assert_problem(response, 422, "validation_failed", pointer)


async def test_lists_of_ten_thousand_are_refused_by_name_under_the_default_limit() -> None:
    async with running() as stack:
        for name in ("history", "exclude_items", "candidates"):
            body = {"user_id": "u", name: [f"i{place}" for place in range(10_001)]}
            response = await stack.client.post("/recommend", json=body)
            assert_problem(response, 422, "validation_failed", f"/{name}")


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
async def test_numbers_that_are_none_are_refused(stack: Stack, number: bytes) -> None:
    for path, field in ((b'"k"', "/k"), (b'"compute": {"max_ratio"', "/compute/max_ratio")):
        tail = b"}" if b"{" in path else b""
        body = b'{"user_id": "u", ' + path + b": " + number + tail + b"}"
        response = await stack.client.post("/recommend", content=body, headers=JSON)
        assert_problem(response, 422, "validation_failed", field)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "empty_body"),
        (b"  \n", 400, "empty_body"),
        (b"{", 400, "malformed_json"),
        (b"{'user_id': 'u'}", 400, "malformed_json"),
        (b'{"user_id": "u",}', 400, "malformed_json"),
        (b'{"user_id": "\xff"}', 400, "invalid_utf8"),
        (b"\xff\xfe{\x00}\x00", 400, "invalid_utf8"),
        (b'{"user_id": "\\ud800"}', 400, "malformed_json"),
        (b"[" * 5000, 400, "malformed_json"),
        (b"[]", 422, "validation_failed"),
        (b"null", 422, "validation_failed"),
        (b'"u"', 422, "validation_failed"),
    ],
)
@pytest.mark.parametrize(
    "endpoint",
    [e for e in ENDPOINTS if e.sends is not None and e.scope != "admin"],
    ids=lambda e: f"{e.method} {e.path}",
)
async def test_what_is_no_json_object_is_refused_everywhere(
    stack: Stack, endpoint: Any, body: bytes, status: int, code: str
) -> None:
    path = endpoint.path.replace("{user_id:path}", "u")
    response = await stack.client.request(endpoint.method, path, content=body, headers=JSON)
    assert_problem(response, status, code)


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1"]
)
async def test_other_media_types_are_refused(stack: Stack, kind: str) -> None:
    response = await stack.client.post(
        "/recommend", content=b'{"user_id": "u"}', headers={"content-type": kind}
    )
    assert_problem(response, 415, "unsupported_media_type")


async def test_long_bodies_are_refused_by_header_and_as_they_arrive(stack: Stack) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield b" " * 1024

    long = b" " * (64 * 1024 + 1)
    for content in (long, endless()):
        response = await stack.client.post("/recommend", content=content, headers=JSON)
        assert_problem(response, 413, "body_too_large")
    body = json.dumps({"user_id": "u"}).encode().ljust(64 * 1024)
    assert (await stack.client.post("/recommend", content=body, headers=JSON)).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "pointer"),
    [
        ("GET", "/nope", 404, "not_found", None),
        ("GET", "/recommend/", 404, "not_found", None),
        ("GET", "/docs", 404, "not_found", None),
        ("GET", "/recommend", 405, "method_not_allowed", None),
        ("BREW", "/recommend", 405, "method_not_allowed", None),
        ("GET", "/v1/items/nope/similar", 404, "item_not_found", None),
        ("GET", "/v1/items/i1/similar?k=0", 422, "validation_failed", "/query/k"),
        ("GET", "/v1/users/u/history?limit=x", 422, "validation_failed", "/query/limit"),
        ("GET", "/v1/users//history", 422, "validation_failed", "/path/user_id"),
        ("GET", "/v1/users/a%00b/history", 422, "validation_failed", "/path/user_id"),
        ("GET", "/v1/users/a%0Ab/history", 422, "validation_failed", "/path/user_id"),
        ("GET", "/v1/items/a%0Ab/similar", 422, "validation_failed", "/path/item_id"),
        ("GET", f"/v1/users/{'u' * 257}/history", 422, "validation_failed", "/path/user_id"),
        ("GET", "/v1/users/a%FFb/history", 400, "invalid_utf8", "/path"),
        ("POST", "/v1/admin/model/reload", 404, "not_found", None),
        ("GET", "/problems/none", 404, "not_found", None),
    ],
)
async def test_every_route_keeps_the_shape(
    stack: Stack, method: str, path: str, status: int, code: str, pointer: str | None
) -> None:
    assert_problem(await stack.client.request(method, path), status, code, pointer)


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/recommend", "OPTIONS, POST"),
        ("/v1/users/a%2Fb/history", "DELETE, GET, HEAD, OPTIONS, PUT"),
        ("/v1/users/u/merge", "OPTIONS, POST"),
        ("/openapi.json", "GET, HEAD, OPTIONS"),
    ],
)
async def test_a_path_says_which_methods_it_knows(stack: Stack, path: str, methods: str) -> None:
    refused = await stack.client.request("PATCH", path)
    assert_problem(refused, 405, "method_not_allowed")
    asked = await stack.client.options(path)
    assert (asked.status_code, asked.content) == (204, b"")
    assert refused.headers["allow"] == asked.headers["allow"] == methods


async def test_head_is_get_without_its_body(stack: Stack) -> None:
    for path in ("/healthz", "/v1/users/u/history", "/v1/items/nope/similar", "/openapi.json"):
        got = await stack.client.get(path)
        head = await stack.client.head(path)
        assert (head.status_code, head.content) == (got.status_code, b"")
        for name in ("content-type", "content-length", "x-content-type-options"):
            assert head.headers[name] == got.headers[name]
    assert (await stack.client.head("/recommend")).status_code == 405
    assert (await stack.client.head("/nope")).status_code == 404
    # Counted as what it was answered as: another method for every route would be as many series.
    counted = await stack.metric(
        "canet_http_requests_total",
        method="GET",
        route="/v1/users/{user_id:path}/history",
        status="200",
    )
    assert counted == 2


async def test_an_engine_that_raises_is_a_500_without_its_words(stack: Stack) -> None:
    response = await stack.client.post(
        "/recommend", json={"history": ["i1"], "candidates": ["poison"]}
    )
    assert_problem(response, 500, "internal_error")


async def test_a_bug_is_a_500_without_its_words(stack: Stack) -> None:
    async def broken(user_id: str, limit: int) -> list[Any]:
        raise RuntimeError("secret internals")

    stack.store.entries = broken  # type: ignore[method-assign]
    assert_problem(await stack.client.get("/v1/users/u/history"), 500, "internal_error")


async def test_the_store_being_away_is_a_503_where_nothing_else_can_answer(stack: Stack) -> None:
    stack.store.away = True
    event = {"events": [{"user_id": "u", "item_id": "i1"}]}
    for response in (
        await stack.client.post("/v1/events", json=event),
        await stack.client.get("/v1/users/u/history"),
        await stack.client.put("/v1/users/u/history", json={"items": []}),
        await stack.client.delete("/v1/users/u/history"),
        await stack.client.post("/v1/users/u/merge", json={"source_user_id": "v"}),
    ):
        assert_problem(response, 503, "store_unavailable")


async def test_without_a_model_recommendations_are_a_503() -> None:
    async with running(no_model=True) as stack:
        for method, path in (("POST", "/recommend"), ("GET", "/v1/model")):
            body = {"user_id": "u"} if method == "POST" else None
            response = await stack.client.request(method, path, json=body)
            assert_problem(response, 503, "not_ready")
        ready = await stack.client.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["checks"]["model"] == "missing"
        assert (await stack.client.get("/healthz")).status_code == 200


async def test_every_problem_type_can_be_looked_up(stack: Stack) -> None:
    for code, kind in KINDS.items():
        told = (await stack.client.get(f"/problems/{code}")).json()
        assert told["status"] == kind.status


async def test_an_engine_swapped_for_a_smaller_one_keeps_the_shape() -> None:
    async with running(engine=FakeEngine()) as stack:
        await stack.manager.reload("v9")
        response = await stack.client.post("/recommend", json={"user_id": "u"})
        assert response.headers["x-model-version"] == "v9"

"""One canonical line per request: enough to find it again, nothing about the person."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest

from service.logs import UserHasher, configure
from tests.service.fakes import running


@pytest.fixture
def stream() -> Iterator[StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    found = StringIO()
    configure("INFO", "json", found)
    logging.getLogger("httpx").setLevel("WARNING")  # the client of these tests
    yield found
    logging.getLogger("httpx").setLevel("NOTSET")
    root.handlers[:] = handlers
    root.setLevel(level)


def requests(stream: StringIO) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    return [line for line in lines if line["message"] == "request"]


async def test_one_line_per_request_without_ids_or_histories(stream: StringIO) -> None:
    async with running() as stack:
        headers = {"traceparent": "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"}
        body = {"user_id": "alice", "history": ["i77", "i78"], "scenario": "home"}
        response = await stack.client.post("/recommend", json=body, headers=headers)
        await stack.client.get("/v1/users/alice/history")
        await stack.client.get("/healthz")
    first, second = requests(stream)
    assert "alice" not in stream.getvalue()
    assert "i77" not in stream.getvalue()
    assert first["request_id"] == response.headers["x-request-id"]
    assert first["trace_id"] == "ab" * 16
    assert response.headers["traceresponse"] == f"00-{first['trace_id']}-{first['span_id']}-01"
    assert first["route"] == "/recommend"
    assert first["status"] == 200
    assert first["scenario"] == "home"
    assert first["flops"] == response.json()["compute"]["flops"]
    assert first["user"] == second["user"]
    stages = {"queue_seconds", "route_seconds", "encode_seconds", "score_seconds"}
    computed = {"variant", "model_version", "source", "submodel", "reason", "degraded"}
    assert stages | computed | {"serialise_seconds", "seconds"} <= set(first)
    assert "trace_id" not in second


async def test_a_failure_is_told_by_its_code_and_user(stream: StringIO) -> None:
    async with running() as stack:
        body = {"user_id": "alice", "compute": {"mode": "fixed", "submodel": "d9-w16-e16"}}
        response = await stack.client.post("/recommend", json=body, headers={"X-Request-ID": "r"})
        assert response.status_code == 422
    (line,) = requests(stream)
    assert (line["request_id"], line["status"]) == ("r", 422)
    assert line["code"] == "validation_failed"
    assert len(line["user"]) == 16


async def test_a_caller_that_left_has_a_line_and_no_answer(stream: StringIO) -> None:
    async with running() as stack:
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/recommend",
            "raw_path": b"/recommend",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
            "client": ("127.0.0.1", 1),
            "server": ("test", 80),
            "scheme": "http",
        }

        async def gone() -> dict[str, str]:
            return {"type": "http.disconnect"}

        async def nobody(message: Any) -> None:
            raise AssertionError("there is nobody to tell")

        await stack.app(scope, gone, nobody)
        labels = {"method": "POST", "route": "/recommend"}
        count = await stack.metric("canet_http_request_duration_seconds_count", **labels)
    (line,) = requests(stream)
    assert (line["status"], line["outcome"]) == (499, "client left")
    assert count == 0


async def test_what_is_sent_cannot_forge_a_line(stream: StringIO) -> None:
    async with running() as stack:
        await stack.client.post("/recommend", content=b'{"a\\n": 1}')
        await stack.client.get("/%0a%7b%7d")
    assert len(requests(stream)) == 2
    # What the service itself tells at start may stand between them.
    lines = [json.loads(line)["logger"] for line in stream.getvalue().splitlines()]
    assert all(logger.startswith("canet.") for logger in lines)


def test_hashes_depend_on_the_salt_and_the_user() -> None:
    first, second = UserHasher("a"), UserHasher("b")
    assert first("u") == UserHasher("a")("u") != second("u")
    assert first("u") != first("v")


def test_text_lines_escape_control_characters_and_show_failures() -> None:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = StringIO()
    try:
        configure("INFO", "text", stream)
        logging.getLogger("canet.x").warning("a\nb")
        try:
            raise ValueError("why")
        except ValueError:
            logging.getLogger("canet.x").error("failed", exc_info=sys.exc_info())
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    assert r"warning a\nb" in stream.getvalue()
    assert "ValueError: why" in stream.getvalue()

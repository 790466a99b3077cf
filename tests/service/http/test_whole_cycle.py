"""A request that comes in one piece is answered as one that comes in two."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from tests.service.fakes import running
from tests.service.http.wire import answered, listening, posted, serving, told

ASK = {"history": ["i1", "i2"]}
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connected(port: int) -> Pair:
    return await asyncio.open_connection("127.0.0.1", port)


def split(request: bytes) -> tuple[bytes, bytes]:
    head, body = request.split(b"\r\n\r\n", 1)
    return head + b"\r\n\r\n", body


@pytest.mark.parametrize(
    ("path", "ask", "headers", "status"),
    [
        ("/recommend", ASK, {}, 200),
        ("/recommend", ASK, {"X-Request-ID": "mine"}, 200),
        ("/recommend", {"history": []}, {"Connection": "keep-alive"}, 200),
        ("/recommend", {"history": ["i1"], "k": 0}, {}, 422),
        ("/recommend", {"history": ["i" * 200] * 150}, {}, 413),
        ("/v1/recommend/batch", {"requests": [ASK, {}]}, {}, 200),
        ("/v1/events", {"events": []}, {}, 422),
        ("/v1/users/u/merge", {"from_user_id": "v"}, {}, 422),
        ("/nowhere", {}, {}, 404),
        ("/healthz", {}, {}, 405),
        ("/v1/admin/model/reload", {}, {}, 404),
    ],
)
async def test_the_answers_are_the_same(
    path: str, ask: object, headers: dict[str, str], status: int
) -> None:
    request = posted(ask, path, **headers)
    async with running(max_body=20_000) as stack, listening(stack) as url:
        port = httpx.URL(url).port or 0
        answers, closed = [], []
        for parts in ([request], split(request)):
            reader, writer = await connected(port)
            for part in parts:
                writer.write(part)
                await asyncio.sleep(0.05)
            answers.append(await answered(reader))
            # A second request on the same connection, unless that was to end.
            writer.write(posted(ASK))
            closed.append(await reader.read(9) == b"")
            writer.close()
    whole, parted = answers
    assert whole.status_code == parted.status_code == status
    drop = ("recommendation_id", "server-timing", "results", "content-length")
    (_, whole_headers, whole_body), (_, parted_headers, parted_body) = told(whole), told(parted)
    assert isinstance(whole_headers, dict)
    assert isinstance(parted_headers, dict)
    assert isinstance(whole_body, dict)
    assert isinstance(parted_body, dict)
    for name in drop:
        for one in (whole_headers, parted_headers, whole_body, parted_body):
            one.pop(name, None)
    assert whole_headers == parted_headers
    assert whole_body == parted_body
    assert closed == [status == 413] * 2


async def test_one_after_the_other_in_every_way() -> None:
    request = posted(ASK)
    head, body = split(request)
    async with running() as stack, listening(stack) as url:
        reader, writer = await connected(httpx.URL(url).port or 0)
        pieces = [
            request,
            head,
            body,
            request,
            request + request,
            request,
            head[:9],
            head[9:],
            body,
        ]
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.02)
        for _ in range(7):
            assert (await answered(reader)).status_code == 200
        writer.close()


async def test_who_hangs_up_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    began, left = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["body"] == b"{}"
        began.set()
        if (await receive())["type"] == "http.disconnect":
            left.set()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async with serving(app) as port:
        _, writer = await connected(port)
        writer.write(posted({}))
        await began.wait()
        writer.close()
        await asyncio.wait_for(left.wait(), 5)
        await asyncio.sleep(0.05)
    assert not caplog.records


def sending(*messages: Message) -> Any:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


def start(*headers: tuple[bytes, bytes], status: int = 200) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(content: bytes, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}


async def received(app: Any) -> bytes:
    """Return all that comes for one request, until a second later nothing more does."""
    async with serving(app) as port:
        reader, writer = await connected(port)
        writer.write(posted({}))
        seen = b""
        try:
            while more := await asyncio.wait_for(reader.read(65536), 0.3):
                seen += more
        except TimeoutError:
            pass
        writer.close()
    return seen


async def test_answers_in_parts_and_without_a_length() -> None:
    parts = await received(sending(start(), body(b"ab", more=True), body(b"c")))
    assert b"transfer-encoding: chunked" in parts
    assert parts.endswith(b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")
    alone = await received(sending(start(), body(b"abc")))
    assert b"content-length: 3\r\n" in alone
    assert alone.endswith(b"\r\n\r\nabc")
    empty = await received(sending(start(status=204), body(b"")))
    assert empty.startswith(b"HTTP/1.1 204 No Content\r\n")
    assert b"content-length" not in empty


@pytest.mark.parametrize(
    "messages",
    [
        (start((b"a", b"b\r\nc: d")), body(b"")),
        (start((b"a", b"b\nc: d")), body(b"")),
        (start((b"a", b"b\0")), body(b"")),
        (start((b"content-length", b"2")), body(b"abc")),
        (start(),),
        (body(b"abc"),),
        (),
    ],
)
async def test_what_is_no_answer_is_none(
    messages: tuple[Message, ...], caplog: pytest.LogCaptureFixture
) -> None:
    seen = await received(sending(*messages))
    # Nothing of it, or the server's own answer to a failure, goes out.
    assert seen == b"" or seen.startswith(b"HTTP/1.1 500 ")
    assert b"c: d" not in seen
    assert caplog.records

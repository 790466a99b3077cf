"""Raw requests that no schema makes: broken bytes in every part of HTTP, and what may come back."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any

from hypothesis import strategies as st

from service.http.problems import KINDS
from service.http.routing import ENDPOINTS
from tests.fuzz.target import KEY, Target

SHAPE = {"type", "title", "status", "detail", "instance", "request_id", "code", "errors"}
LEAKS = ("Traceback", 'File "', "site-packages", "redis.exceptions", "pydantic_core")
WAIT_SECONDS = 120.0

HUGE = (b"1" + b"0" * 400, b"-1e999", b"1e-999", b"9" * 4301, b"NaN", b"-0", b"1e5000")
SNIPPETS: Sequence[bytes] = (
    *(b"", b" ", b"{", b"}", b"[", b"null", b"true", b'""', b"\x00", b"\xff\xfe", b"\xef\xbb\xbf"),
    *(b'"\\ud800"', b'"\\u0000"', b'"\xed\xa0\x80"', b'"\xc0\xaf"', b'"\xf5\x80\x80\x80"'),
    *(b"[" * 3000, b'{"a":' * 3000, b'{"user_id":"u","user_id":"v"}', b"'u'", b"{}{}", b"// x"),
    *HUGE,
)
BODIES: Sequence[bytes] = (
    b'{"user_id": "u", "k": %s}',
    b'{"user_id": %s}',
    b'{"history": [%s]}',
    b'{"user_id": "u", "compute": {"max_ratio": %s, "deadline_ms": %s}}',
    b'{"user_id": "u", "filter": {"must": [{"field": %s, "any_of": [%s]}]}}',
    b'{"requests": [%s, {"user_id": "u", "k": %s}]}',
    b'{"events": [%s, {"user_id": "u", "item_id": "i", "timestamp": %s, "value": %s}]}',
    b'{"events": [{"user_id": "u", "item_id": "i", "type": %s, "event_id": %s}]}',
    b'{"items": [{"item_id": "i", "timestamp": %s}]}',
    b'{"source_user_id": %s}',
    b'{"candidate_percent": %s}',
    b'{"price": %s}',
    b"%s",
)
MEDIA: Sequence[bytes] = (
    *(b"application/json", b"application/json; charset=utf-8", b"APPLICATION/JSON"),
    *(b"", b"text/plain", b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=x"),
    *(b"application/json; charset=utf-16", b"application/problem+json", b"*/*", b";", b"\xff\xfe"),
    b"application/json" + b";" * 2000,
)
METHODS: Sequence[bytes] = (
    *(b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"CONNECT"),
    *(b"BREW", b"get", b"PROPFIND", b"QUERY", b"M-SEARCH", b"\xff", b""),
)
IDS: Sequence[bytes] = (
    *(
        b"u",
        b"%00",
        b"%FF",
        b"%C3%28",
        b"%ED%A0%80",
        b"%EF%BF%BD",
        b"%2F",
        b"a/b",
        b"..",
        b"%2e%2e",
    ),
    *(b"%", b"%zz", b"%F0%9F%98%80", b"%7B%7D", b"a%0d%0ab", b"+", b"", b"history", b"\xff", b"?"),
    *(b"u" * 256, b"u" * 257, b"%C3%BC" * 256, b"u" * 60_000, b"%E2%80%A8"),
)
QUERIES: Sequence[bytes] = (
    *(
        b"",
        b"?",
        b"?k=1",
        b"?limit=1",
        b"?k=%FF",
        b"?limit=1&limit=2",
        b"?k=1_0",
        b"?k=1e2",
        b"?k=",
    ),
    *(b"?limit=" + b"9" * 5000, b"?k=%00", b"?" + b"a=b&" * 3000, b"?&&&==", b"?k=\xd9\xa1"),
)
HEADERS: Sequence[bytes] = (
    *(b"x-request-id: " + b"\xff" * 8, b"x-request-id: a\x0bb", b"x-request-id: " + b"r" * 500),
    *(b"traceparent: 00-zz-zz-01", b"traceparent: \xff", b"tracestate: \xff\xfe", b"cookie: a=b"),
    *(
        b"transfer-encoding: chunked",
        b"content-length: -1",
        b"content-length: 5\r\ncontent-length: 6",
    ),
    *(b"expect: 100-continue", b"expect: x", b"upgrade: websocket\r\nconnection: upgrade"),
    b"upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    b"sec-websocket-version: 13",
    *(b"upgrade: h2c\r\nconnection: upgrade, http2-settings", b"accept: \xff", b"origin: null"),
    *(b"accept: application/openmetrics-text; version=\xff", b"accept-encoding: gzip, \xff"),
    *(
        b"x-api-key: \xff\xfe",
        b"x-api-key: wrong",
        b"x-forwarded-for: \xff, 1.2.3.4",
        b": x",
        b"a b: c",
    ),
    b"\r\n".join(b"x-%d: y" % number for number in range(300)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back, or None for `status` where the connection just ended."""

    status: int | None
    headers: dict[str, str]
    body: bytes


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """One request as bytes: mostly well-formed HTTP around something broken."""
    endpoint = draw(st.sampled_from(ENDPOINTS))
    name = draw(st.sampled_from(IDS) | st.binary(max_size=12).map(_quoted))
    path = endpoint.path.encode()
    for part in (b"{user_id:path}", b"{item_id:path}", b"{code}"):
        path = path.replace(part, name)
    own = endpoint.method.encode()
    method = draw(st.just(own) | st.just(own) | st.sampled_from(METHODS))
    query = draw(st.just(b"") | st.sampled_from(QUERIES))
    if method in {b"POST", b"PUT", b"PATCH"}:
        body = draw(_bodies())
    else:
        body = draw(st.just(b"") | st.just(b"") | _bodies())
    media = draw(st.just(MEDIA[0]) | st.just(MEDIA[0]) | st.sampled_from(MEDIA))
    head = [b"host: x", b"content-type: " + media, b"content-length: %d" % len(body)]
    if draw(st.integers(0, 9)):
        head.append(b"x-api-key: " + KEY.encode())
    head += draw(st.just([]) | st.lists(st.sampled_from(HEADERS) | _header(), max_size=2))
    version = draw(st.just(b"HTTP/1.1") | st.sampled_from([b"HTTP/1.0", b"HTTP/2.0", b"x"]))
    start = b" ".join((method, path + query, version))
    sent = b"\r\n".join((start, *head, b"connection: close", b"", body))
    # Not 0, which is drawn far more often than any other number.
    return draw(_cut(sent)) if draw(st.integers(0, 19)) == 13 else sent


def _quoted(raw: bytes) -> bytes:
    return b"".join(b"%%%02X" % byte for byte in raw)


def _header() -> st.SearchStrategy[bytes]:
    return st.binary(max_size=20).map(lambda value: b"x-any: " + value)


@st.composite
def _bodies(draw: st.DrawFn) -> bytes:
    body = draw(st.sampled_from(BODIES))
    broken = st.sampled_from(SNIPPETS) | st.binary(max_size=20)
    pieces = _json() if draw(st.booleans()) else broken | _json()
    return b"".join(
        part + draw(pieces) if place else part
        for place, part in enumerate(reversed(body.split(b"%s")))
    )


def _json() -> st.SearchStrategy[bytes]:
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | _objects(inner))
    return values.map(lambda value: json.dumps(value).encode())


def _objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    names = st.sampled_from(["user_id", "item_id", "k", "compute", "mode", "type"])
    return st.dictionaries(names | st.text(max_size=3), inner, max_size=3)


def _cut(sent: bytes) -> st.SearchStrategy[bytes]:
    return st.integers(1, len(sent)).map(lambda at: sent[:at])


def send(service: Target, sent: bytes) -> Answer:
    """Send the bytes, say that no more will come, and return what comes back."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=WAIT_SECONDS) as line:
        try:
            line.sendall(sent)
            method = sent.split(b" ", 1)[0].decode("latin-1")
            answer = HTTPResponse(line, method=method)
            answer.begin()
            body = answer.read()
        except (HTTPException, ConnectionResetError, BrokenPipeError):
            return Answer(status=None, headers={}, body=b"")
    headers = {name.lower(): value for name, value in answer.getheaders()}
    return Answer(status=answer.status, headers=headers, body=body)


def complaint(sent: bytes, answer: Answer) -> str | None:
    """Return what is wrong with an answer; None for a good one."""
    status = answer.status
    if status is None:
        return None
    if status >= 500:
        return f"a {status}"
    for leak in LEAKS:
        if leak.encode() in answer.body:
            return f"it tells {leak!r}"
    if status < 400:
        return None
    if answer.headers.get("content-type") != "application/problem+json":
        return f"a {status} as {answer.headers.get('content-type')}"
    if "x-request-id" not in answer.headers or "nosniff" not in answer.headers.values():
        return f"a {status} without the usual headers"
    if status == 405 and "allow" not in answer.headers:
        return "a 405 without Allow"
    if sent.startswith(b"HEAD "):
        return None if answer.body == b"" else "a HEAD with a body"
    told = json.loads(answer.body)
    if set(told) != SHAPE or told["status"] != status or KINDS[told["code"]].status != status:
        return f"no problem of this service: {told}"
    return None

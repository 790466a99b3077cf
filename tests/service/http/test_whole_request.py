"""What is read without a parser is what the parser would have read, or is left to it."""

from __future__ import annotations

from typing import Any

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.http.whole_request import WholeRequest, whole_request

PLAIN = b"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"


class Parsed:
    """Collects what httptools says of the bytes."""

    def __init__(self, data: bytes) -> None:
        self.url, self.headers, self.body, self.complete = b"", [], b"", 0
        parser = httptools.HttpRequestParser(self)
        parser.feed_data(data)
        self.plain = parser.get_method() == b"POST" and parser.get_http_version() == "1.1"
        self.keeps = parser.should_keep_alive() and not parser.should_upgrade()

    headers: list[tuple[bytes, bytes]]

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete += 1


def test_a_plain_request_is_read() -> None:
    headers = [(b"host", b"x"), (b"content-length", b"2")]
    assert whole_request(PLAIN) == WholeRequest(b"/recommend", headers, b"{}")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        PLAIN[:-1],
        PLAIN + b"{",
        PLAIN + PLAIN,
        b"\r\n" + PLAIN,
        PLAIN.replace(b"POST", b"GET"),
        PLAIN.replace(b"POST", b"post"),
        PLAIN.replace(b"1.1", b"1.0"),
        PLAIN.replace(b"\r\n", b"\n"),
        PLAIN.replace(b"Host: x", b"Host : x"),
        PLAIN.replace(b"Host: x", b"Host: x\r\n folded"),
        PLAIN.replace(b"Host: x", b"Host: \x00"),
        PLAIN.replace(b"Host: x", b"Host: \xff"),
        PLAIN.replace(b"Host: x", b"Transfer-Encoding: chunked"),
        PLAIN.replace(b"Host: x", b"Connection: close"),
        PLAIN.replace(b"Host: x", b"Upgrade: websocket"),
        PLAIN.replace(b"Host: x", b"Expect: 100-continue"),
        PLAIN.replace(b"Host: x", b"Content-Length: 2"),
        PLAIN.replace(b"Content-Length: 2", b"Accept: */*"),
        PLAIN.replace(b"Length: 2", b"Length: +2"),
        PLAIN.replace(b"Length: 2", b"Length: 2, 2"),
        PLAIN.replace(b"Length: 2", b"Length: "),
        PLAIN.replace(b"Length: 2", b"Length: 2 "),
        PLAIN.replace(b"/recommend", b"/a b"),
        PLAIN.replace(b"/recommend", b"/a?b"),
        PLAIN.replace(b"/recommend", b"/%61"),
        PLAIN.replace(b"/recommend", b"recommend"),
    ],
)
def test_everything_unusual_is_left_to_the_parser(data: bytes) -> None:
    assert whole_request(data) is None


@pytest.mark.parametrize("value", [b"keep-alive", b"Keep-Alive", b" keep-alive\t"])
def test_the_connection_may_be_said_to_stay(value: bytes) -> None:
    assert whole_request(PLAIN.replace(b"Host: x", b"Connection:" + value)) is not None


@pytest.mark.parametrize("filling", [b" ", b"\t", b":", b"a", b"a:", b"a: \r\n", b"a:b\r\n"])
def test_nothing_that_is_sent_takes_long(filling: bytes) -> None:
    # Were it more than linear, this would take minutes.
    for head in (b"", b"a:"):
        data = b"POST / HTTP/1.1\r\n" + head + filling * (1_000_000 // len(filling)) + b"\x00"
        assert whole_request(data) is None


_NAMES = st.sampled_from(
    [b"Host", b"content-length", b"Content-Length", b"Transfer-Encoding", b"X-Request-ID", b"a b"]
)
_VALUES = st.one_of(
    st.sampled_from([b"0", b"2", b"02", b"chunked", b" 2 ", b"close", b""]),
    st.binary(max_size=4),
    st.text("abc \t:,\r\n", max_size=6).map(str.encode),
)
_LINES = st.lists(st.tuples(_NAMES, st.sampled_from([b":", b": ", b" : "]), _VALUES), max_size=4)


@given(lines=_LINES, body=st.sampled_from([b"", b"{}", b"{}{}", b"0\r\n\r\n"]), target=_VALUES)
def test_what_is_read_is_what_the_parser_reads(
    lines: list[Any], body: bytes, target: bytes
) -> None:
    head = b"".join(b"%b%b%b\r\n" % line for line in lines)
    data = b"POST /%b HTTP/1.1\r\n%b\r\n%b" % (target, head, body)
    read = whole_request(data)
    if read is not None:
        parsed = Parsed(data)
        assert (parsed.url, parsed.headers, parsed.body, parsed.complete) == (*read, 1)
        assert parsed.plain
        assert parsed.keeps

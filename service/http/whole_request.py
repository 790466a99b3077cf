"""A request that came in one piece, read without a parser."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from service.http.record import Headers

# Nothing here is lenient: whatever two readers of HTTP could take in two ways is not read here.
_HEAD: Final = re.compile(
    rb"POST (/[!$&->@-~]*+) HTTP/1\.1\r\n((?:[!#$%&'*+.^_`|~0-9A-Za-z-]++:[ -~\t]*+\r\n)++)\r\n"
)
_LENGTH: Final = re.compile(rb"[0-9]{1,9}")
# With one of these the rest of the connection is to be read otherwise.
_PARSERS: Final = frozenset({b"transfer-encoding", b"expect", b"upgrade"})


class WholeRequest(NamedTuple):
    """A POST: its target, its headers, names in lower case, and its whole body."""

    url: bytes
    headers: Headers
    body: bytes


def whole_request(data: bytes) -> WholeRequest | None:
    """Return the request if `data` is one plain POST of HTTP/1.1 and nothing else.

    None for what is longer, shorter, of another method, in chunks, or in any way unusual: that is
    for the parser to judge, from its first byte. Time and memory are linear in the bytes.
    """
    found = _HEAD.match(data)
    if found is None:
        return None
    url, lines = found.groups()
    headers, length = [], None
    for line in lines[:-2].split(b"\r\n"):
        name, _, value = line.partition(b":")
        name, sent = name.lower(), value.lstrip(b" \t")
        value = sent.rstrip(b" \t")
        if name in _PARSERS or (name == b"connection" and value.lower() != b"keep-alive"):
            return None
        if name == b"content-length":
            # The parser keeps what stands behind a length, and of no other header.
            if length is not None or not _LENGTH.fullmatch(sent):
                return None
            length = int(value)
        headers.append((name, value))
    body = data[found.end() :]
    if length is None or len(body) != length:
        return None
    return WholeRequest(url, headers, body)

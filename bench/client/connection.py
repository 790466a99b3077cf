"""One keep-alive HTTP/1.1 connection with at most one request on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, cast

Answered = Callable[["Connection", int, bytes], None]
"""Called with the connection, the status (0: the connection broke) and the body."""

_WITHOUT_BODY: Final = frozenset({204, 304})


class Connection(asyncio.Protocol):
    """Sends prepared requests and calls `answered` once for each; reads Content-Length bodies.

    `head` is the head of the last answer, as it came.
    """

    def __init__(self, answered: Answered) -> None:
        self.head = b""
        self._answered = answered
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._busy = False

    @property
    def is_open(self) -> bool:
        """Whether a request can be sent."""
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports are of no asyncio class.
        self._transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes) -> None:
        """Send one whole request; the one before must have been answered."""
        assert self._transport is not None
        assert not self._busy
        self._busy = True
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Collect; report when the answer is whole."""
        self._received = self._received + data if self._received else data
        head = self._received.find(b"\r\n\r\n")
        if head < 0:
            return
        status, end = int(self._received[9:12]), head + 4
        place = self._received[:head].lower().find(b"\r\ncontent-length:")
        if place >= 0:
            end += int(self._received[place + 17 : head].split(b"\r\n", 1)[0])
        elif status not in _WITHOUT_BODY:
            self.close()  # chunked or until-close bodies: none of the servers here sends them
            return
        if len(self._received) < end:
            return
        self.head, body = self._received[:head], self._received[head + 4 : end]
        self._received = b""
        self._busy = False
        self._answered(self, status, body)

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the request on the way as broken."""
        self._transport = None
        if self._busy:
            self._busy = False
            self._answered(self, 0, b"")

    def close(self) -> None:
        """Close; a request on the way is reported as broken."""
        if self._transport is not None:
            self._transport.close()


def prepare(
    host: str,
    port: int,
    path: str,
    body: str,
    *,
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """Return the bytes of one request with a body of JSON, or without one where it is empty."""
    data = body.encode()
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}:{port}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if data:
        lines.append("Content-Type: application/json")
    if data or method not in {"GET", "DELETE"}:
        lines.append(f"Content-Length: {len(data)}")
    return "\r\n".join([*lines, "", ""]).encode() + data

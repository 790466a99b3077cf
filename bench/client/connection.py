"""One keep-alive HTTP/1.1 connection with at most one request on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

Answered = Callable[["Connection", int, bytes], None]
"""Called with the connection, the status (0: the connection broke) and the body."""


class Connection(asyncio.Protocol):
    """Sends prepared requests and calls `answered` once for each; reads Content-Length bodies."""

    def __init__(self, answered: Answered) -> None:
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
        place = self._received[:head].lower().find(b"\r\ncontent-length:")
        if place < 0:
            self.close()  # chunked or until-close bodies: none of the servers here sends them
            return
        line = self._received[place + 17 : head].split(b"\r\n", 1)[0]
        end = head + 4 + int(line)
        if len(self._received) < end:
            return
        status, body = int(self._received[9:12]), self._received[head + 4 : end]
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


def prepare(host: str, port: int, path: str, body: str) -> bytes:
    """Return the bytes of one POST of JSON."""
    data = body.encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data

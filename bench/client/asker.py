"""Requests that are awaited one by one, over a connection of one's own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from bench.client.connection import Connection, prepare

_HOST = "127.0.0.1"


class Reply(NamedTuple):
    """An answer: `head` holds the status line and the headers as they came."""

    status: int
    head: bytes
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the header's value, None without it."""
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.decode("latin-1").lower() == name.lower():
                return value.decode("latin-1").strip()
        return None


class Asker:
    """One caller of a server: a keep-alive connection, opened again when it is gone.

    Far cheaper than a general client, so that one process can ask a server as fast as it answers.
    `headers` go with every request.
    """

    def __init__(self, port: int, *, headers: Mapping[str, str] | None = None) -> None:
        self._port = port
        self._headers = dict(headers or {})
        self._connection: Connection | None = None
        self._answer: asyncio.Future[Reply] | None = None

    async def ask(self, method: str, path: str, body: str = "") -> Reply:
        """Send a request and return its answer; ConnectionError when the connection breaks."""
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        await self._send(method, path, body, answer)
        return await answer

    async def hang_up(self, method: str, path: str, body: str = "") -> None:
        """Send a request and leave before it is answered."""
        await self._send(method, path, body, None)
        # Until the server has read it, as a caller would whose patience has ended.
        await asyncio.sleep(0.001)
        self.close()

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _send(
        self, method: str, path: str, body: str, answer: asyncio.Future[Reply] | None
    ) -> None:
        if self._connection is None or not self._connection.is_open:
            _, self._connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(self._answered), _HOST, self._port
            )
        self._answer = answer
        self._connection.send(
            prepare(_HOST, self._port, path, body, method=method, headers=self._headers)
        )

    def _answered(self, connection: Connection, status: int, body: bytes) -> None:
        if connection is not self._connection:
            return  # one that was left: whoever asks over the new one still waits
        answer, self._answer = self._answer, None
        if answer is None or answer.done():
            return
        if status:
            answer.set_result(Reply(status, connection.head, body))
        else:
            answer.set_exception(ConnectionError("the connection broke before the answer"))

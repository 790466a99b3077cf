"""A caller that left one connection is answered over the next."""

from __future__ import annotations

import asyncio

import pytest

from bench.client.asker import Asker
from bench.client.connection import Connection


async def test_a_connection_that_was_left_takes_no_answer_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The one that was left breaks while the answer over the next is on its way."""
    seen = 0
    close = Connection.close

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        seen += 1
        last = seen > 1
        await reader.readuntil(b"\r\n\r\n")
        if last:
            await asyncio.sleep(0.2)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        else:
            await reader.read()
        writer.close()

    def late(connection: Connection) -> None:
        asyncio.get_running_loop().call_later(0.05, close, connection)

    monkeypatch.setattr(Connection, "close", late)
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        asker = Asker(server.sockets[0].getsockname()[1])
        await asker.hang_up("GET", "/")
        async with asyncio.timeout(30):
            assert (await asker.ask("GET", "/")).body == b"ok"
        assert seen == 2
        asker.close()
        await asyncio.sleep(0.1)

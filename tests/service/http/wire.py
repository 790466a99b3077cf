"""The app behind the server's own protocol, and requests as bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import uvicorn

from bench.client.connection import prepare
from service.http.connections import guarded
from service.http.turning_away import TurningAway
from tests.service.fakes import Stack


@asynccontextmanager
async def listening(stack: Stack) -> AsyncIterator[str]:
    """Yield the URL at which the stack's app is served, its lifespan being the stack's."""
    # Its state is what a test says it is.
    stack.app.state.services.overload.tick = lambda _: None
    async with serving(stack.app, stack.app.state.turning_away) as port:
        yield f"http://127.0.0.1:{port}"


@asynccontextmanager
async def serving(app: Any, turning_away: TurningAway | None = None) -> AsyncIterator[int]:
    """Yield the port at which any ASGI app is served."""
    config = uvicorn.Config(
        app,
        port=0,
        lifespan="off",
        log_config=None,
        server_header=False,
        http=guarded(5.0, turning_away),
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        await server.shutdown()


def posted(ask: object, path: str = "/recommend", **headers: str) -> bytes:
    """Return the request in one piece."""
    return prepare("127.0.0.1", 80, path, json.dumps(ask), headers=headers)


async def answered(reader: asyncio.StreamReader) -> httpx.Response:
    """Read one answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    status, *lines = head[:-4].split(b"\r\n")
    headers = [(name, value.strip()) for name, _, value in (one.partition(b":") for one in lines)]
    body = await reader.readexactly(int(dict(headers)[b"content-length"]))
    return httpx.Response(int(status[9:12]), headers=headers, content=body)


def told(answer: httpx.Response) -> tuple[object, ...]:
    """Return the answer without what no two answers share."""
    ids = {"x-request-id", "date", "traceresponse"}
    headers = {name: value for name, value in answer.headers.items() if name not in ids}
    return answer.status_code, headers, {**answer.json(), "request_id": None}

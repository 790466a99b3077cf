"""Bounds on what a request may send and how long that may take, before anything is parsed."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.context import Lifetime
from service.http.middleware import send_problem
from service.http.problems import ProblemError, no_such_route
from service.http.whole_cycle import WHOLE_KEY


class BodyLimit:
    """Refuses bodies longer than `limit` bytes, by their header, else as they arrive.

    A body that has not arrived `seconds` after the route asked for it is refused too.
    """

    def __init__(self, app: ASGIApp, *, limit: int, seconds: float) -> None:
        self._app = app
        self._limit = limit
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a counted body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        whole: int | None = scope.get(WHOLE_KEY)
        if whole is not None and whole <= self._limit:
            await self._app(scope, receive, send)
            return
        for name, value in scope["headers"]:
            if name == b"content-length" and (not value.isdigit() or self._too_long(value)):
                await send_problem(self._problem(), scope, send)
                return
        received = 0
        until: float | None = None
        complete = False

        async def counted() -> Message:
            nonlocal received, until, complete
            if complete:  # what comes now is the end of the connection, whenever that is
                return await receive()
            if until is None:
                until = asyncio.get_running_loop().time() + self._seconds
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError:
                raise self._late() from None
            complete = not message.get("more_body", False)
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > self._limit:
                    raise self._problem()
            return message

        await self._app(scope, counted, send)

    def _too_long(self, value: bytes) -> bool:
        return len(value) > 18 or int(value) > self._limit

    def _problem(self) -> ProblemError:
        return ProblemError(
            "body_too_large",
            f"The body is longer than {self._limit} bytes; send less at once.",
            headers={"Connection": "close"},
        )

    def _late(self) -> ProblemError:
        return ProblemError(
            "request_timeout",
            f"The body did not arrive within {self._seconds:g} s.",
            headers={"Connection": "close"},
        )


class Doors:
    """Answers admin routes and metrics on the admin port alone, and nothing but these there.

    Probes are answered on both. Ports are those of the socket the request came in by: no header
    can change them.
    """

    def __init__(self, app: ASGIApp, *, lifetime: Lifetime) -> None:
        self._app = app
        self._lifetime = lifetime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on when it came through its own door; otherwise there is no route."""
        if scope["type"] == "http":
            path: str = scope["path"]
            port = (scope.get("server") or ("", None))[1]
            inside = port is not None and port == self._lifetime.admin_port
            if not path.startswith(_BOTH) and path.startswith(_ADMIN) != inside:
                raise no_such_route()
        await self._app(scope, receive, send)


_ADMIN = ("/v1/admin/", "/metrics")
_BOTH = ("/healthz", "/readyz", "/problems/")

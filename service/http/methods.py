"""Which methods a path knows: HEAD, OPTIONS and what a 405 names, from the one table."""

from __future__ import annotations

import re
from collections.abc import Sequence

from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.endpoint import Endpoint

_DOCUMENT = ("/openapi.json", "GET")


class Allowed:
    """The methods of every path.

    Without `admin` the admin routes have none: they do not exist where no key opens them.
    """

    def __init__(self, endpoints: Sequence[Endpoint], *, admin: bool) -> None:
        methods: dict[str, set[str]] = {}
        rows = [(one.path, one.method) for one in endpoints if admin or one.scope != "admin"]
        for path, method in (*rows, _DOCUMENT):
            methods.setdefault(path, {"OPTIONS"}).add(method)
            if method == "GET":
                methods[path].add("HEAD")
        self._methods = [(_pattern(path), sorted(known)) for path, known in methods.items()]

    def of(self, path: str) -> tuple[str, ...]:
        """Return the methods of a concrete path, sorted; none where nothing is."""
        return tuple(
            dict.fromkeys(
                method
                for pattern, methods in self._methods
                if pattern.match(path)
                for method in methods
            )
        )


class Methods:
    """Answers HEAD as GET without its body, and OPTIONS with the methods of the path."""

    def __init__(self, app: ASGIApp, *, allowed: Allowed) -> None:
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; paths that lead nowhere are the router's."""
        if scope["type"] != "http" or scope["method"] not in {"HEAD", "OPTIONS"}:
            await self._app(scope, receive, send)
            return
        known = self._allowed.of(scope["path"])
        if scope["method"] == "OPTIONS" and known:
            headers = [(b"allow", ", ".join(known).encode("ascii"))]
            await send({"type": "http.response.start", "status": 204, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
        elif scope["method"] == "HEAD" and "HEAD" in known:
            await self._head(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _head(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        # A copy: the server looks at its own to know that no body will come.
        asked: Scope = {**scope, "method": "GET"}
        try:
            await self._app(asked, receive, without_body)
        finally:
            scope["route"] = asked.get("route")


def _pattern(path: str) -> re.Pattern[str]:
    return compile_path(path)[0]

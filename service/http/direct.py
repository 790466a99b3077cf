"""The shortest way to the routes asked most: one look-up instead of the framework's router.

The framework matches routes one after the other, resolves dependencies and opens exit stacks for
every request; routes that take nothing but the request need none of it. They stand in its table
all the same: for the OpenAPI document, for other methods, for whatever is not answered here.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortcut:
    """A route without parameters: `guard` lets the request pass or raises, `handler` answers."""

    path: str
    guard: Callable[[Request], Coroutine[Any, Any, None]]
    handler: Callable[[Request], Coroutine[Any, Any, Response]]


class Direct:
    """Answers (method, path) pairs of `shortcuts` itself and hands everything else on."""

    def __init__(self, app: ASGIApp, *, shortcuts: Mapping[tuple[str, str], Shortcut]) -> None:
        self._app = app
        self._shortcuts = shortcuts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; what guard and handler raise is the outer middleware's."""
        shortcut = None
        if scope["type"] == "http" and not scope.get("root_path"):
            shortcut = self._shortcuts.get((scope["method"], scope["path"]))
        if shortcut is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = shortcut
        request = Request(scope, receive, send)
        await shortcut.guard(request)
        response = await shortcut.handler(request)
        await response(scope, receive, send)

"""API keys: who may read, write and administer."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Coroutine
from typing import Any, Literal

from starlette.requests import Request

from service.http.context import services
from service.http.problems import ProblemError
from service.settings import ApiKey

KEY_HEADER = "X-API-Key"
AuthScope = Literal["read", "write", "admin"]


def scopes_of(presented: str, keys: tuple[ApiKey, ...]) -> frozenset[str] | None:
    """Return what the presented key opens, None when it is not one of `keys`.

    Compares hashes, and always all of them, so time tells nothing about any key.
    """
    digest = hashlib.sha256(presented.encode("utf-8", "surrogatepass")).digest()
    found: frozenset[str] | None = None
    for key in keys:
        if hmac.compare_digest(digest, key.digest):
            found = key.scopes if found is None else found | key.scopes
    return found


def require(scope: AuthScope) -> Callable[[Request], Coroutine[Any, Any, None]]:
    """Return the route dependency that lets only keys with `scope` pass.

    Without any configured key, read and write are open. Admin needs a configured key always.
    """

    async def check(request: Request) -> None:
        keys = services(request).settings.api_keys
        if scope == "admin" and not any("admin" in key.scopes for key in keys):
            raise ProblemError(
                "admin_disabled", "Set CANET_API_KEYS to a list that holds a key of scope admin."
            )
        if not keys:
            return
        granted = scopes_of(request.headers.get(KEY_HEADER, ""), keys)
        if granted is None:
            raise ProblemError(
                "unauthorized",
                f"Send a valid key in the {KEY_HEADER} header.",
                headers={"WWW-Authenticate": "ApiKey"},
            )
        if scope not in granted:
            raise ProblemError("forbidden", f"This route needs a key of scope {scope}.")

    return check

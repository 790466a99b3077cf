"""Who may call what, and how often: API keys with scopes, and rates per key."""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Callable, Coroutine
from typing import Any, Literal

from starlette.requests import Request

from service.config.values import Rate
from service.http.context import exchange, services
from service.http.problems import ProblemError, no_such_route
from service.overload.rates import Verdict
from service.settings import ApiKey

KEY_HEADER = "X-API-Key"
AuthScope = Literal["read", "write", "admin"]


def key_of(presented: str, keys: tuple[ApiKey, ...]) -> ApiKey | None:
    """Return what is known of the presented key, None when it is not one of `keys`.

    A key that is listed twice opens what both entries say. Compares hashes, and always all of
    them, so time tells nothing about any key.
    """
    digest = hashlib.sha256(presented.encode("utf-8", "surrogatepass")).digest()
    scopes: frozenset[str] | None = None
    for key in keys:
        if hmac.compare_digest(digest, key.digest):
            scopes = key.scopes if scopes is None else scopes | key.scopes
    return None if scopes is None else ApiKey(digest=digest, scopes=scopes)


def require(scope: AuthScope) -> Callable[[Request], Coroutine[Any, Any, None]]:
    """Return the route dependency that lets only keys with `scope` pass, at their rate.

    Without any configured key, read and write are open, and rates are counted by address. Admin
    routes exist only where a key of scope admin is configured. Nothing of the body has been read
    by then.
    """

    async def check(request: Request) -> None:
        here = services(request)
        keys = here.settings.api_keys
        if scope == "admin" and not any("admin" in key.scopes for key in keys):
            raise no_such_route()
        if not keys:
            if here.rates is not None:
                client = request.client
                await _count(request, f"address:{client.host if client else ''}")
            return
        key = key_of(request.headers.get(KEY_HEADER, ""), keys)
        if key is None:
            raise ProblemError(
                "unauthorized",
                f"Send a valid key in the {KEY_HEADER} header.",
                headers={"WWW-Authenticate": "ApiKey"},
            )
        await _count(request, f"key:{key.digest.hex()[:32]}")
        if scope == "admin":
            # Who changed something; the hash's beginning tells keys apart and opens nothing.
            exchange(request).fields["key"] = key.digest.hex()[:12]
        if scope not in key.scopes:
            raise ProblemError("forbidden", f"This route needs a key of scope {scope}.")

    return check


async def _count(request: Request, caller: str) -> None:
    here = services(request)
    rate = here.settings.rate_limit
    if rate is None or here.rates is None:
        return
    verdict = await here.rates.take(caller)
    exchange(request).headers |= _told(rate, verdict)
    if not verdict.allowed:
        here.metrics.refusal("rate_limit")
        raise ProblemError(
            "rate_limited",
            f"The limit is {rate.requests} requests in {rate.seconds} s; see Retry-After.",
            headers={"Retry-After": str(max(1, math.ceil(verdict.retry_seconds)))},
        )


def _told(rate: Rate, verdict: Verdict) -> dict[str, str]:
    return {
        "ratelimit-limit": str(rate.requests),
        "ratelimit-remaining": str(verdict.remaining),
        "ratelimit-reset": str(math.ceil(verdict.reset_seconds)),
    }

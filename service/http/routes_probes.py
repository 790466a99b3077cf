"""Probes, metrics and what problem types mean; none of them needs a key."""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from service.http.answers import HealthAnswer, ProblemTypeAnswer, ReadyAnswer
from service.http.body import reply
from service.http.context import services
from service.http.problems import KINDS
from service.lifecycle.contract import SIDES, ModelManager
from service.metrics.exposition import exposed

PING_SECONDS = 1.0


async def healthz(request: Request) -> Response:
    """Say that the process runs, also while it drains."""
    return reply(request, HealthAnswer(status="ok"))


async def readyz(request: Request) -> Response:
    """Say whether traffic should come here: model warm, not draining."""
    here = services(request)
    up = await ping(request)
    checks = {
        "model": _model_check(here.models),
        "redis": "ok" if up else "down",
        "blocklist": "ok" if here.blocklist.known else "unknown",
        "lifetime": "draining" if here.lifetime.draining else "ok",
    }
    needed = ["model", "lifetime"]
    if here.settings.ready_requires_redis:
        needed += ["redis", "blocklist"]
    ready = all(checks[name] in {"ok", "fallback"} for name in needed)
    problems: dict[str, str | None] = {
        "model": here.models.problem,
        **{side: here.sides.status(side).problem for side in SIDES},
    }
    answer = ReadyAnswer(
        status="ready" if ready else "unready",
        checks=checks,
        detail={name: problem for name, problem in problems.items() if problem is not None},
    )
    response = reply(request, answer, status=200 if ready else 503)
    if not ready:
        response.headers["Retry-After"] = "2"
    return response


def _model_check(models: ModelManager) -> str:
    if models.current() is None:
        return "missing"
    return "fallback" if models.fallback else "ok"


async def metrics(request: Request) -> Response:
    """Return every metric, as OpenMetrics where the caller accepts it, else as plain text."""
    registry = services(request).metrics.registry
    text, kind = await exposed(registry, request.headers.get("accept", ""))
    return Response(text, headers={"content-type": kind})


async def problem_type(request: Request, code: str) -> Response:
    """Say what the `type` of a problem means."""
    kind = KINDS.get(code)
    if kind is None:
        raise HTTPException(404)
    answer = ProblemTypeAnswer(type=f"/problems/{code}", title=kind.title, status=kind.status)
    return reply(request, answer)


async def ping(request: Request) -> bool:
    """Return whether the store answers within a second, and note it."""
    here = services(request)
    try:
        async with asyncio.timeout(PING_SECONDS):
            up = await here.store.ping()
    except TimeoutError:
        up = False
    here.metrics.redis_up.set(up)
    return up

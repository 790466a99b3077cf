"""Pure ASGI middleware: request id, headers, problems, metrics, canonical line."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.context import SCOPE_KEY, Exchange
from service.http.problems import ProblemError, no_such_route, problem_of
from service.http.record import CLIENT_LEFT, Recorder, problem_headers

log = logging.getLogger("canet.http")


class Exchanges:
    """Records every request and gives every answer its headers; what was raised, its answer."""

    def __init__(self, app: ASGIApp, *, recorder: Recorder) -> None:
        self._app = app
        self._recorder = recorder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        recorder = self._recorder
        exchange = scope[SCOPE_KEY] = recorder.begin(scope["headers"], scope["path"])
        status: int | None = None

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *recorder.headers(exchange)]
            await send(message)

        recorder.metrics.in_flight += 1
        try:
            await self._app(scope, receive, send_with_headers)
        except ClientDisconnect:
            exchange.fields["outcome"] = "client left"
        except Exception as error:
            problem = problem_of(error)
            if problem.code == "internal_error":
                log.exception("request %s failed", exchange.request_id)
            if status is not None:
                raise
            await send_problem(problem, scope, send_with_headers)
        finally:
            recorder.metrics.in_flight -= 1
            left = CLIENT_LEFT if "outcome" in exchange.fields else None
            if (noted := status or left) is not None:
                recorder.note(
                    exchange,
                    method=scope["method"],
                    template=getattr(scope.get("route"), "path", None),
                    status=noted,
                    seconds=time.perf_counter() - started,
                )


async def send_problem(problem: ProblemError, scope: Scope, send: Send) -> None:
    """Send the problem as the whole answer to the request of `scope`."""
    exchange: Exchange = scope[SCOPE_KEY]
    exchange.fields["code"] = problem.code
    body = problem.render(request_id=exchange.request_id, instance=_instance(scope))
    headers = problem_headers(problem, body)
    await send({"type": "http.response.start", "status": problem.kind.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def http_problem(error: HTTPException, allowed: Sequence[str]) -> ProblemError:
    """Return the problem for what the router itself refuses; `allowed` are the path's methods."""
    if error.status_code == 404 or (error.status_code == 405 and not allowed):
        return no_such_route()
    if error.status_code == 405:
        known = ", ".join(allowed)
        return ProblemError(
            "method_not_allowed", f"This route knows {known}.", headers={"Allow": known}
        )
    if error.status_code < 500:
        return ProblemError(
            "bad_request", "The request cannot be read.", headers=dict(error.headers or {})
        )
    return ProblemError("internal_error", "The log holds the reason under this request id.")


def _instance(scope: Scope) -> str:
    """Return the path as it was sent, at most 512 characters."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw[:512].decode("ascii", "replace")

"""Pure ASGI middleware: request id, headers, body limit, problems, metrics, canonical line."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Sequence

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.context import SCOPE_KEY, Exchange
from service.http.problems import MEDIA_TYPE, ProblemError, no_such_route, problem_of
from service.logs import log_request
from service.metrics.labels import UNMATCHED
from service.metrics.metrics import Metrics
from service.tracing.contract import TraceParent, Tracer
from service.tracing.traceparent import parse
from service.ulid import RandomBytes

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
SAFE_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
)
# Called every few seconds by machines: their lines are for debugging only.
_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
# No user, not even hashed: traces are kept elsewhere, and by others.
_TOLD_IN_SPANS = (
    *("code", "outcome", "batch", "source", "variant", "model_version", "submodel", "reason"),
    *("flops", "flops_full", "history_length", "degraded"),
)
# Nobody got an answer: for the log line alone, as proxies write it.
CLIENT_LEFT = 499

log = logging.getLogger("canet.http")


class Exchanges:
    """Gives every request an Exchange, every answer its headers, and notes what happened.

    `model_version` is asked for answers whose route did not name the model it used.
    `routes` are the known route templates; others are counted as `unmatched`. With a `tracer`
    every request but probes and scrapes is a span.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        model_version: Callable[[], str | None],
        routes: frozenset[str],
        tracer: Tracer | None = None,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._model_version = model_version
        self._routes = routes
        self._tracer = tracer
        self._random = RandomBytes()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        exchange = scope[SCOPE_KEY] = self._begin(scope)
        status: int | None = None

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._add_headers(exchange, message)
            await send(message)

        self._metrics.http_in_flight.inc()
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
            self._metrics.http_in_flight.dec()
            left = CLIENT_LEFT if "outcome" in exchange.fields else None
            if (noted := status or left) is not None:
                self._note(scope, exchange, noted, time.perf_counter() - started)

    def _begin(self, scope: Scope) -> Exchange:
        request_id, parent, state = None, None, None
        for name, value in scope["headers"]:
            if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
                request_id = value.decode("ascii")
            elif name == b"traceparent":
                parent = parse(value)
            elif name == b"tracestate":
                state = value.decode("latin-1")
        exchange = Exchange(request_id=request_id or self._random(16).hex())
        if self._tracer is not None and scope["path"] not in _QUIET:
            exchange.span = self._tracer.begin(parent, state)
            exchange.trace = exchange.span.place
        elif parent is not None:
            own = self._random(8).hex()
            exchange.trace = TraceParent(parent.trace_id, own, parent.sampled)
        return exchange

    def _add_headers(self, exchange: Exchange, start: Message) -> None:
        """Add to the bytes as they go out; no route sets one of these itself."""
        headers = [*start.get("headers", ()), *SAFE_HEADERS]
        headers.append((b"x-request-id", exchange.request_id.encode("ascii")))
        version = exchange.model_version or self._model_version()
        if version is not None:
            headers.append((b"x-model-version", version.encode("latin-1")))
        if exchange.trace is not None:
            headers.append((b"traceresponse", str(exchange.trace).encode("ascii")))
        if exchange.stage_seconds:
            timing = ", ".join(
                [f"{stage};dur={s * 1000:.3f}" for stage, s in exchange.stage_seconds.items()]
            )
            headers.append((b"server-timing", timing.encode("ascii")))
        for name, value in exchange.headers.items():
            headers.append((name.encode("ascii"), value.encode("ascii")))
        start["headers"] = headers

    def _note(self, scope: Scope, exchange: Exchange, status: int, seconds: float) -> None:
        template = getattr(scope.get("route"), "path", None)
        route = template if template in self._routes and status != 405 else UNMATCHED
        trace, method = exchange.trace, scope["method"]
        sampled = None if trace is None or not trace.sampled else trace.trace_id
        if status != CLIENT_LEFT:
            self._metrics.http_answered(method, route, status, seconds, trace_id=sampled)
        known = method if len(method) <= 16 else "other"
        if exchange.span is not None:
            exchange.span.end(
                f"{known} {route}", status, _attributes(exchange, known, route, status)
            )
        quiet = route in _QUIET and status < 500
        log_request(
            {
                "request_id": exchange.request_id,
                **({} if trace is None else {"trace_id": trace.trace_id, "span_id": trace.span_id}),
                "method": known,
                "route": route,
                "status": status,
                "seconds": round(seconds, 6),
                **exchange.fields,
                **{
                    f"{stage}_seconds": round(value, 6)
                    for stage, value in exchange.stage_seconds.items()
                },
            },
            level=logging.DEBUG if quiet else logging.INFO,
        )


def _attributes(exchange: Exchange, method: str, route: str, status: int) -> dict[str, object]:
    """Return what a span tells: the standard's names, and the fields that say what was computed."""
    return {
        "http.request.method": method,
        "http.route": route,
        "http.response.status_code": status,
        "canet.request_id": exchange.request_id,
        **{f"canet.{name}": exchange.fields.get(name) for name in _TOLD_IN_SPANS},
    }


async def send_problem(problem: ProblemError, scope: Scope, send: Send) -> None:
    """Send the problem as the whole answer to the request of `scope`."""
    exchange: Exchange = scope[SCOPE_KEY]
    exchange.fields["code"] = problem.code
    body = problem.render(request_id=exchange.request_id, instance=_instance(scope))
    headers = {"content-type": MEDIA_TYPE, "content-length": str(len(body))}
    headers |= {name.lower(): value for name, value in problem.all_headers().items()}
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": problem.kind.status, "headers": raw})
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

"""How one request is begun, headed, counted and logged, wherever it is answered."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from http import HTTPStatus

from service.http.context import Exchange
from service.http.problems import MEDIA_TYPE, ProblemError
from service.logs import log_request
from service.metrics.labels import UNMATCHED
from service.metrics.metrics import Metrics
from service.tracing.contract import TraceParent, Tracer
from service.tracing.traceparent import parse
from service.ulid import RandomBytes

Headers = list[tuple[bytes, bytes]]

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


class Recorder:
    """Gives every request an Exchange, every answer its headers, and notes what happened.

    `model_version` is asked for answers whose route did not name the model it used.
    `routes` are the known route templates; others are counted as `unmatched`. With a `tracer`
    every request but probes and scrapes is a span.
    """

    def __init__(
        self,
        *,
        metrics: Metrics,
        model_version: Callable[[], str | None],
        routes: frozenset[str],
        tracer: Tracer | None = None,
    ) -> None:
        self.metrics = metrics
        self.model_version = model_version
        self._routes = routes
        self._tracer = tracer
        self._random = RandomBytes()

    def begin(self, headers: Iterable[tuple[bytes, bytes]], path: str) -> Exchange:
        """Return the record of a request that came with these headers, names in lower case."""
        request_id, parent, state = None, None, None
        for name, value in headers:
            if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
                request_id = value.decode("ascii")
            elif name == b"traceparent":
                parent = parse(value)
            elif name == b"tracestate":
                state = value.decode("latin-1")
        exchange = Exchange(request_id=request_id or self._random(16).hex())
        if self._tracer is not None and path not in _QUIET:
            exchange.span = self._tracer.begin(parent, state)
            exchange.trace = exchange.span.place
        elif parent is not None:
            own = self._random(8).hex()
            exchange.trace = TraceParent(parent.trace_id, own, parent.sampled)
        return exchange

    def headers(self, exchange: Exchange) -> Headers:
        """Return what every answer carries, as it goes out; no route sets one of these itself."""
        headers = [*SAFE_HEADERS, (b"x-request-id", exchange.request_id.encode("ascii"))]
        version = exchange.model_version or self.model_version()
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
        return headers

    def note(
        self,
        exchange: Exchange,
        *,
        method: str,
        template: str | None,
        status: int,
        seconds: float | None,
    ) -> None:
        """Count and log one answered request; `template` is its route's path.

        Without `seconds` its duration is told by nobody: it never went in.
        """
        route = template if template in self._routes and status != 405 else UNMATCHED
        trace = exchange.trace
        sampled = None if trace is None or not trace.sampled else trace.trace_id
        if status != CLIENT_LEFT:
            self.metrics.http_answered(method, route, status, seconds, trace_id=sampled)
        known = method if len(method) <= 16 else "other"
        if exchange.span is not None:
            exchange.span.end(
                f"{known} {route}", status, _attributes(exchange, known, route, status)
            )
        quiet = route in _QUIET and status < 500
        line: dict[str, object] = {"request_id": exchange.request_id}
        if trace is not None:
            line["trace_id"], line["span_id"] = trace.trace_id, trace.span_id
        line["method"], line["route"], line["status"] = known, route, status
        if seconds is not None:
            line["seconds"] = round(seconds, 6)
        line |= exchange.fields
        for stage, value in exchange.stage_seconds.items():
            line[f"{stage}_seconds"] = round(value, 6)
        log_request(line, level=logging.DEBUG if quiet else logging.INFO)


def status_line(status: int) -> bytes:
    """Return the first line of an answer, its end included."""
    return b"HTTP/1.1 %d %s\r\n" % (status, HTTPStatus(status).phrase.encode())


def header_lines(headers: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """Return the lines of an answer's head, their ends included; the empty last is not there."""
    return [name + b": " + value + b"\r\n" for name, value in headers]


def problem_headers(problem: ProblemError, body: bytes) -> Headers:
    """Return the headers that go out with `body`, the rendered problem."""
    headers = {"content-type": MEDIA_TYPE, "content-length": str(len(body))}
    headers |= {name.lower(): value for name, value in problem.all_headers().items()}
    return [(n.encode("latin-1"), v.encode("latin-1")) for n, v in headers.items()]


def _attributes(exchange: Exchange, method: str, route: str, status: int) -> dict[str, object]:
    """Return what a span tells: the standard's names, and the fields that say what was computed."""
    return {
        "http.request.method": method,
        "http.route": route,
        "http.response.status_code": status,
        "canet.request_id": exchange.request_id,
        **{f"canet.{name}": exchange.fields.get(name) for name in _TOLD_IN_SPANS},
    }

"""Spans through OpenTelemetry's SDK to a collector, by OTLP over HTTP.

The one file that imports it (extra `otel`), itself imported only where an endpoint is set.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)
from opentelemetry.trace import Span as OtelSpan
from opentelemetry.trace import Tracer as OtelTracer
from opentelemetry.util.types import AttributeValue

from service.tracing.contract import Marks, Span, TraceParent, Tracer

_QUEUE = 8192  # spans; what does not fit is dropped rather than waited for
_SEND_SECONDS = 5.0


def open_tracer(endpoint: str, *, sample_ratio: float, version: str) -> Tracer:
    """Return a tracer that sends to `endpoint`, the full URL that takes OTLP traces.

    `sample_ratio` of the requests without a sampling decision of their caller are traced. The
    standard variables OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME and
    OTEL_EXPORTER_OTLP_HEADERS hold here too.
    """
    resource = Resource.create({"service.name": "canet-serve", "service.version": version})
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(sample_ratio)),
        resource=resource,
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(endpoint=endpoint, timeout=_SEND_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=_QUEUE))
    return _Tracer(provider)


class _Tracer:
    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("canet")

    def begin(self, parent: TraceParent | None, state: str | None) -> Span:
        # Never the ambient context: a request's parent is what its caller says, or nothing.
        context = Context() if parent is None else _remote(parent, state)
        # The clock of the marks, and the clock of the world, read at the same moment.
        now, clock = time.time_ns(), time.perf_counter()
        span = self._tracer.start_span(
            "request", context=context, kind=SpanKind.SERVER, start_time=now
        )
        return _Span(self._tracer, span, now - int(clock * 1e9))

    def close(self) -> None:
        self._provider.shutdown()


class _Span:
    def __init__(self, tracer: OtelTracer, span: OtelSpan, offset_ns: int) -> None:
        self._tracer = tracer
        self._span = span
        self._offset_ns = offset_ns
        context = span.get_span_context()
        self.place = TraceParent(
            f"{context.trace_id:032x}", f"{context.span_id:016x}", context.trace_flags.sampled
        )
        self.marks: Marks | None = [] if span.is_recording() else None

    def end(self, name: str, status: int, attributes: Mapping[str, object]) -> None:
        if self.marks is None:
            return
        here = trace.set_span_in_context(self._span, Context())
        for mark in self.marks:
            stage = self._tracer.start_span(
                mark.stage, context=here, start_time=self._at(mark.started)
            )
            stage.end(self._at(mark.started + mark.seconds))
        self._span.update_name(name)
        self._span.set_attributes(
            {key: _told(value) for key, value in attributes.items() if value is not None}
        )
        if status >= 500:
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end(self._at(time.perf_counter()))

    def _at(self, clock: float) -> int:
        return self._offset_ns + int(clock * 1e9)


def _remote(parent: TraceParent, state: str | None) -> Context:
    context = SpanContext(
        int(parent.trace_id, 16),
        int(parent.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED if parent.sampled else TraceFlags.DEFAULT),
        trace_state=TraceState.from_header([state]) if state else TraceState(),
    )
    return trace.set_span_in_context(NonRecordingSpan(context), Context())


def _told(value: object) -> AttributeValue:
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Sequence):
        return [str(one) for one in value]
    return str(value)

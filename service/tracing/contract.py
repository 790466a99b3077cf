"""What the service asks of tracing, in plain values: nothing here needs OpenTelemetry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class TraceParent:
    """One span's place in a trace, as W3C Trace Context writes it (lower-case hex digits)."""

    trace_id: str
    span_id: str
    sampled: bool

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


class Mark(NamedTuple):
    """A stage that ran; `started` is a reading of time.perf_counter, seconds."""

    stage: str
    started: float
    seconds: float


Marks = list[Mark]


class Span(Protocol):
    """The span of one request, begun and not yet ended."""

    @property
    def place(self) -> TraceParent:
        """The request's own place in its trace."""
        ...

    @property
    def marks(self) -> Marks | None:
        """Where stages are noted; None when the trace is not sampled."""
        ...

    def end(self, name: str, status: int, attributes: Mapping[str, object]) -> None:
        """End the span under `name`, with one child span per mark. Called once."""
        ...


class Tracer(Protocol):
    """Makes spans and sends them off, never on the caller's time."""

    def begin(self, parent: TraceParent | None, state: str | None) -> Span:
        """Return the span of a request that begins now.

        A `parent` decides whether the trace is sampled; without one it is drawn by lot. `state` is
        the caller's tracestate header.
        """
        ...

    def close(self) -> None:
        """Send what is left, for a bounded time. Blocks; call it off the event loop, once."""
        ...

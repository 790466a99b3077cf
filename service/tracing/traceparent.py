"""W3C Trace Context: reading the `traceparent` header."""

from __future__ import annotations

import re

from service.tracing.contract import TraceParent

_FORM = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE = b"0" * 32
_NO_SPAN = b"0" * 16
_SAMPLED = 1


def parse(header: bytes) -> TraceParent | None:
    """Return the caller's place in its trace, None for what the standard calls invalid.

    Versions to come may append fields; version ff and ids of nothing but zeros never are valid.
    """
    match = _FORM.fullmatch(header)
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == b"ff" or trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    if more is not None and version == b"00":
        return None
    return TraceParent(
        trace_id.decode("ascii"), span_id.decode("ascii"), bool(int(flags, 16) & _SAMPLED)
    )

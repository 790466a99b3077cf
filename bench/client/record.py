"""What was seen, in a high dynamic range histogram."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from hdrh.histogram import HdrHistogram

MAX_MICROSECONDS = 600_000_000
_DIGITS = 3
_SOURCE = re.compile(rb'"source":"(\w+)"')
# A service that knows no degraded answers does not send the field.
_WHOLE = (b'"degraded":[]', b'"degraded": []')


class Record:
    """Latencies and what came with them. A failed or degraded answer counts as endless."""

    def __init__(self) -> None:
        self._latency = HdrHistogram(1, MAX_MICROSECONDS, _DIGITS)
        self._lag = HdrHistogram(1, MAX_MICROSECONDS, _DIGITS)
        self.requests = self.failed = self.degraded = 0
        self._sources: Counter[bytes] = Counter()
        self._statuses: Counter[int] = Counter()

    def answered(self, status: int, body: bytes, seconds: float) -> None:
        """Note one answer, `seconds` after it was due; status 0 for a broken connection."""
        self.requests += 1
        self._statuses[status] += 1
        if status != 200:
            self.failed += 1
            seconds = float("inf")
        else:
            found = _SOURCE.search(body)
            if found is not None:
                self._sources[found[1]] += 1
            if b'"degraded"' in body and not any(whole in body for whole in _WHOLE):
                self.degraded += 1
                seconds = float("inf")
        self._latency.record_value(_microseconds(seconds))

    def unanswered(self, count: int) -> None:
        """Note requests that were due and never answered."""
        self.requests += count
        self.failed += count
        if count:
            self._statuses[0] += count
            self._latency.record_value(MAX_MICROSECONDS, count)

    def sent(self, lag_seconds: float) -> None:
        """Note how late a request with a free connection was sent."""
        self._lag.record_value(_microseconds(lag_seconds))

    def to_json(self) -> dict[str, Any]:
        """Return the fields of `Outcome` that come from here."""
        return {
            "requests": self.requests,
            "failed": self.failed,
            "degraded": self.degraded,
            "mean_ms": self._latency.get_mean_value() / 1000,
            "max_ms": self._latency.get_max_value() / 1000,
            **{
                f"{name}_ms": self._latency.get_value_at_percentile(percentile) / 1000
                for name, percentile in (("p50", 50), ("p90", 90), ("p99", 99), ("p999", 99.9))
            },
            "send_lag_p99_ms": self._lag.get_value_at_percentile(99) / 1000,
            "sources": {name.decode(): count for name, count in self._sources.items()},
            "statuses": {str(status): count for status, count in self._statuses.items()},
        }


def _microseconds(seconds: float) -> int:
    return int(min(max(seconds * 1e6, 1), MAX_MICROSECONDS))

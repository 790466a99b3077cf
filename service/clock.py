"""The time at which events without one happened."""

from __future__ import annotations

import time
from collections.abc import Callable


class EventClock:
    """Unix milliseconds by the wall clock, each later than the one before. For one event loop.

    A wall clock can be set back. A user's newest event would then sort before older ones, and with
    a full history it would be trimmed the moment it was acknowledged; here events keep their order
    of arrival, a millisecond apart, until the wall clock has caught up.
    """

    def __init__(self, wall_ns: Callable[[], int] = time.time_ns) -> None:
        self._wall_ns = wall_ns
        self._last_ms = 0

    def __call__(self) -> int:
        """Return the time now, at least a millisecond after the time returned before."""
        self._last_ms = max(self._last_ms + 1, self._wall_ns() // 1_000_000)
        return self._last_ms

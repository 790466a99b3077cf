"""A circuit breaker: while a server is known to be away, nobody waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable


class CircuitBreaker:
    """Closed until `threshold` consecutive failures, then open for `open_seconds`.

    After that one caller may probe (half-open): success closes, failure opens again.
    For one event loop; not thread-safe.
    """

    def __init__(
        self,
        *,
        threshold: int,
        open_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._threshold = threshold
        self._open_seconds = open_seconds
        self._clock = clock
        self._failures = 0
        self._opened_at: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether calls are refused, save for the next probe."""
        return self._opened_at is not None

    def allow(self) -> bool:
        """Return whether a call may go out now; when half-open, one per `open_seconds`."""
        if self._opened_at is None:
            return True
        now = self._clock()
        if now - self._opened_at < self._open_seconds:
            return False
        # A probe that never reports back must not close the door for good: the clock restarts.
        self._opened_at = now
        return True

    def succeeded(self) -> None:
        """Record that the server answered, whatever it said."""
        self._failures = 0
        self._opened_at = None

    def failed(self) -> None:
        """Record that the server did not answer."""
        self._failures += 1
        if self._failures >= self._threshold:
            self._opened_at = self._clock()

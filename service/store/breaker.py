"""A circuit breaker: while a server is known to be away, nobody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class CircuitBreaker:
    """Closed until `threshold` consecutive failures, then open until `probe` returns True.

    Probing is the breaker's own work, every `probe_seconds`: no caller pays for finding out that
    the server is still away, and it is found again also when nobody calls. For one event loop.
    """

    def __init__(
        self, *, threshold: int, probe_seconds: float, probe: Callable[[], Awaitable[bool]]
    ) -> None:
        self._threshold = threshold
        self._probe_seconds = probe_seconds
        self._probe = probe
        self._failures = 0
        self._probing: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether calls should be refused."""
        return self._probing is not None

    def succeeded(self) -> None:
        """Record that the server answered, whatever it said. An open breaker stays open."""
        self._failures = 0

    def failed(self) -> None:
        """Record that the server did not answer."""
        self._failures += 1
        if self._failures >= self._threshold and self._probing is None:
            self._probing = asyncio.create_task(self._until_it_answers(), name="redis-probe")

    async def stop(self) -> None:
        """Stop probing. Idempotent."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)

    async def _until_it_answers(self) -> None:
        while True:
            await asyncio.sleep(self._probe_seconds)
            if await self._probe():
                break
        self._failures = 0
        self._probing = None

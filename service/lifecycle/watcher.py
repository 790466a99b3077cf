"""Looks at something every so often, and at once when told to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

logger = logging.getLogger(__name__)


class Watcher:
    """Awaits `look` every `poll_seconds` and after every `notice`; outlives what a look raises."""

    def __init__(
        self, look: Callable[[], Awaitable[None]], *, poll_seconds: float, what: str
    ) -> None:
        self._look = look
        self._poll_seconds = poll_seconds
        self._what = what
        self._noticed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def notice(self) -> None:
        """Look now instead of at the next poll; call it on the event loop."""
        self._noticed.set()

    async def start(self) -> None:
        """Look once, then go on by itself; call it once."""
        assert self._task is None, "start is called once"
        await self._looked()
        self._task = asyncio.create_task(self._watch(), name=f"{self._what}-watcher")

    async def stop(self) -> None:
        """Look no more; a look under way is cancelled. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll_seconds):
                    await self._noticed.wait()
            self._noticed.clear()
            await self._looked()

    async def _looked(self) -> None:
        try:
            await self._look()
        except Exception:
            logger.exception("looking for a new %s failed", self._what)

"""One attempt at a time, which outlives the caller that asked for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from service.lifecycle.contract import ReloadBusyError, ReloadRefusedError

T = TypeVar("T")


class Exclusive(Generic[T]):
    """Runs one piece of work at a time on the event loop, so that no lock is needed."""

    def __init__(self) -> None:
        self._attempt: asyncio.Task[T] | None = None
        self._stopping = False

    @property
    def busy(self) -> bool:
        """Whether something runs."""
        return self._attempt is not None and not self._attempt.done()

    async def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Return what `work` returns; it runs on when the caller is cancelled.

        Raises ReloadBusyError when something runs or after `stop`, ReloadRefusedError when
        stopped meanwhile, else what `work` raises.
        """
        if self.busy or self._stopping:
            raise ReloadBusyError

        async def attempt() -> T:
            return await work()

        self._attempt = asyncio.create_task(attempt(), name="model-attempt")
        # A caller that hangs up must not leave a swap half done, nor an error that nobody read.
        self._attempt.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            return await asyncio.shield(self._attempt)
        except asyncio.CancelledError:
            # Ended by `stop`, not by the caller.
            if self._attempt.cancelled():
                raise ReloadRefusedError("the service is stopping") from None
            raise

    async def stop(self) -> None:
        """Cancel what runs and take nothing more. Idempotent."""
        self._stopping = True
        if self._attempt is not None:
            self._attempt.cancel()
            await asyncio.gather(self._attempt, return_exceptions=True)

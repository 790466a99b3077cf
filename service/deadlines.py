"""Bounds on how long callers wait, all on one timer.

`asyncio.timeout` sets and cancels a timer of its own for every caller, and nearly all of them are
cancelled: at a thousand requests a second that is dearer than what it guards against.
"""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from itertools import count
from types import TracebackType
from typing import Any


class Deadline:
    """One caller's wait; `with` it. Made by `Deadlines`.

    When the time is over what the block awaits is cancelled, and the block ends in TimeoutError.
    A cancellation from elsewhere stays one.
    """

    __slots__ = ("_at", "_cancelling", "_expired", "_owner", "_task")

    def __init__(self, owner: Deadlines, at: float) -> None:
        self._owner = owner
        self._at = at
        self._expired = False
        self._task: asyncio.Task[Any] | None = None
        self._cancelling = 0

    def __enter__(self) -> Deadline:
        task = self._task = asyncio.current_task()
        assert task is not None, "only a task can be told that its time is over"
        self._cancelling = task.cancelling()
        self._owner.watch(self, self._at)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task, self._task = self._task, None
        if (
            self._expired
            and task is not None
            and task.uncancel() <= self._cancelling
            and kind is asyncio.CancelledError
        ):
            raise TimeoutError from error

    @property
    def is_over(self) -> bool:
        """Whether its block has ended."""
        return self._task is None

    def expire(self) -> None:
        """Cancel what the block awaits, unless it has ended."""
        if self._task is not None:
            self._expired = True
            self._task.cancel()


class Deadlines:
    """Makes deadlines and keeps the one timer. For one event loop."""

    def __init__(self) -> None:
        self._watched: list[tuple[float, int, Deadline]] = []
        self._number = count()
        self._timer: asyncio.TimerHandle | None = None

    def within(self, seconds: float) -> Deadline:
        """Return a deadline that ends so many seconds from now."""
        return Deadline(self, asyncio.get_running_loop().time() + seconds)

    def watch(self, deadline: Deadline, at: float) -> None:
        """Let `deadline` expire at this time of the event loop's clock."""
        watched = self._watched
        while watched and watched[0][2].is_over:
            heappop(watched)
        heappush(watched, (at, next(self._number), deadline))
        if self._timer is not None and self._timer.when() > at:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(at, self._look)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        now = loop.time() + _EARLY_SECONDS
        while self._watched and (self._watched[0][0] <= now or self._watched[0][2].is_over):
            heappop(self._watched)[2].expire()
        if self._watched:
            self._timer = loop.call_at(self._watched[0][0], self._look)


# Timers may ring a little early: their clock counts milliseconds.
_EARLY_SECONDS = 0.001

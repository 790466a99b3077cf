"""The shadow answers beside the critical path, and only how much it agrees is kept."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Literal, Protocol

from service.engine.batcher import Batcher
from service.engine.contract import Query, Ranking
from service.lifecycle.sides import SideModels

logger = logging.getLogger(__name__)

ShadowResult = Literal["compared", "dropped", "failed"]
_MOST_SECONDS: Final = 10.0


class ShadowObserver(Protocol):
    """Told what the shadow did and cost; nothing of it counts as an answer. `Metrics` is one."""

    def shadow_finished(self, result: ShadowResult) -> None:
        """Count one request of the shadow's share."""
        ...

    def shadow_compared(self, overlap: float) -> None:
        """Note the shared part of a shadow's list and the one that was answered, 0 to 1."""
        ...


class Shadow:
    """Repeats a share of the answered queries on the shadow and compares.

    Bounded: at most `limit` at a time, none while `busy` says that answers are waited for. For
    one event loop.
    """

    def __init__(
        self,
        sides: SideModels,
        batcher: Batcher,
        *,
        observer: ShadowObserver,
        busy: Callable[[], bool],
        limit: int = 16,
    ) -> None:
        self._sides = sides
        self._batcher = batcher
        self._observer = observer
        self._busy = busy
        self._limit = limit
        self._running: set[asyncio.Task[None]] = set()

    def compare(self, query: Query, ranking: Ranking, user_id: str | None) -> None:
        """Repeat `query` on the shadow in the background when the user belongs to its share.

        Returns at once and never raises; only answers of the model are compared.
        """
        if ranking.source != "model" or self._sides.takes("shadow", user_id) is None:
            return
        if len(self._running) >= self._limit or self._busy():
            self._observer.shadow_finished("dropped")
            return
        task = asyncio.create_task(self._compare(query, ranking), name="shadow")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def stop(self) -> None:
        """End what runs. Idempotent."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _compare(self, query: Query, ranking: Ranking) -> None:
        try:
            async with asyncio.timeout(_MOST_SECONDS):
                answer = await self._batcher.submit(query)
        except Exception as error:
            logger.debug("the shadow did not answer: %s", type(error).__name__)
            self._observer.shadow_finished("failed")
            return
        self._observer.shadow_compared(overlap(ranking, answer.ranking))
        self._observer.shadow_finished("compared")


def overlap(one: Ranking, other: Ranking) -> float:
    """Return the share of items that both lists hold, of the longer one; 1 when both are empty."""
    ours = {item.external_id for item in one.items}
    theirs = {item.external_id for item in other.items}
    longest = max(len(ours), len(theirs))
    return len(ours & theirs) / longest if longest else 1.0

"""What was recommended to whom, remembered for the events that name it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from service.engine.contract import Ranking
from service.store.contract import HistoryStore, Shown, ShownTo, StoreUnavailableError
from service.store.shown import shown
from service.ulid import made_at_ms

log = logging.getLogger("canet.impressions")

Missing = Literal["unknown", "expired", "unavailable"]
_AT_ONCE = 64
_MOST_WAITING = 4096
# Between two exchanges: twenty records in one cost a sixth of what they cost in twenty.
_PAUSE_SECONDS = 0.05
# What another replica recommended so shortly ago may still be waiting there.
_YOUNG_MS = 250.0
_SECOND_LOOK_SECONDS = 0.1


class RecordObserver(Protocol):
    """Told what became of the records. `Metrics` is one."""

    def recorded(self, count: int, result: str) -> None:
        """Note so many recommendations `kept`, or `lost`: the store away, or too far behind."""
        ...


class Impressions:
    """Remembers recommendations in the background; no answer waits for it. For one event loop.

    The first is written at once, what comes within the next moment together after it. What could
    not be written is lost, and only the events that name it notice. With `ttl_seconds` 0 nothing
    is remembered.
    """

    def __init__(
        self, store: HistoryStore, *, observer: RecordObserver, ttl_seconds: float
    ) -> None:
        self._store = store
        self._observer = observer
        self._ttl_seconds = ttl_seconds
        self._waiting: dict[tuple[str, str], ShownTo] = {}
        self._sending: Mapping[tuple[str, str], ShownTo] = {}
        self._sender: asyncio.Task[None] | None = None

    def note(self, user_id: str, recommendation_id: str, ranking: Ranking, variant: str) -> None:
        """Remember what this user is being shown; returns at once and never raises."""
        if not self._ttl_seconds:
            return
        if len(self._waiting) >= _MOST_WAITING:
            self._observer.recorded(1, "lost")
            return
        self._waiting[user_id, recommendation_id] = ShownTo(
            user_id=user_id,
            recommendation_id=recommendation_id,
            shown=shown(variant, ranking.submodel, [item.external_id for item in ranking.items]),
            made_at=time.monotonic(),
        )
        if self._sender is None:
            self._sender = asyncio.create_task(self._send(), name="impressions")

    async def recall(self, named: Sequence[tuple[str, str]]) -> list[Shown | Missing]:
        """Return what each (user id, recommendation id) showed, or why that is not known.

        `unknown`: never shown to this user, or too many others since. Never raises for a store
        that is away.
        """
        found: dict[tuple[str, str], Shown | Missing] = {}
        for pair in named:
            here = self._sending.get(pair) or self._waiting.get(pair)
            found[pair] = self._age_of(pair[1]) if here is None else here.shown
        missing = [pair for pair, one in found.items() if one == "unknown"]
        await self._look_up(missing, found)
        young = [
            pair for pair in missing if found[pair] == "unknown" and _age_ms(pair[1]) < _YOUNG_MS
        ]
        if young:
            await asyncio.sleep(_SECOND_LOOK_SECONDS)
            await self._look_up(young, found)
        return [found[pair] for pair in named]

    async def stop(self) -> None:
        """Write what waits; call it before the store is closed."""
        if self._sender is not None:
            await self._sender

    def _age_of(self, recommendation_id: str) -> Missing:
        """Return `expired` for what is too old to be known, else `unknown`."""
        most_ms = self._ttl_seconds * 1000
        return "unknown" if most_ms and _age_ms(recommendation_id) <= most_ms else "expired"

    async def _look_up(
        self, asked: Sequence[tuple[str, str]], found: dict[tuple[str, str], Shown | Missing]
    ) -> None:
        """Put what the store knows of these into `found`."""
        if not asked:
            return
        try:
            known = await self._store.recall(asked)
        except StoreUnavailableError:
            found.update(dict.fromkeys(asked, "unavailable"))
            return
        found.update((pair, one) for pair, one in zip(asked, known, strict=True) if one is not None)

    async def _send(self) -> None:
        try:
            while self._waiting:
                pairs = list(self._waiting)[:_AT_ONCE]
                self._sending = {pair: self._waiting.pop(pair) for pair in pairs}
                try:
                    await self._store.remember(list(self._sending.values()))
                except StoreUnavailableError as error:
                    log.debug("%d recommendations are not remembered: %s", len(pairs), error)
                    self._observer.recorded(len(pairs), "lost")
                else:
                    self._observer.recorded(len(pairs), "kept")
                self._sending = {}
                if len(self._waiting) < _AT_ONCE:
                    await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            self._sender = None


def _age_ms(recommendation_id: str) -> float:
    """Return how long ago an id was made, by the clock of whoever made it; for others' ids 0."""
    made = made_at_ms(recommendation_id)
    return 0.0 if made is None else time.time() * 1000 - made

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
_AT_ONCE = 256
_MOST_WAITING = 4096


class RecordObserver(Protocol):
    """Told what became of the records. `Metrics` is one."""

    def recorded(self, count: int, result: str) -> None:
        """Note so many recommendations `kept`, or `lost`: the store away, or too far behind."""
        ...


class Impressions:
    """Remembers recommendations in the background; no answer waits for it. For one event loop.

    What comes while an exchange with the store is under way goes with the next one. What could
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
        here = [self._sending.get(pair) or self._waiting.get(pair) for pair in named]
        asked = [pair for pair, one in zip(named, here, strict=True) if one is None]
        try:
            found = iter(await self._store.recall(asked) if asked and self._ttl_seconds else ())
        except StoreUnavailableError:
            return ["unavailable" if one is None else one.shown for one in here]
        now_ms = time.time() * 1000
        return [
            self._known(pair[1], next(found, None), now_ms) if one is None else one.shown
            for pair, one in zip(named, here, strict=True)
        ]

    async def stop(self) -> None:
        """Write what waits; call it before the store is closed."""
        if self._sender is not None:
            await self._sender

    def _known(self, recommendation_id: str, found: Shown | None, now_ms: float) -> Shown | Missing:
        made = made_at_ms(recommendation_id)
        age_ms = 0.0 if made is None else now_ms - made
        if not self._ttl_seconds or age_ms > self._ttl_seconds * 1000:
            return "expired"
        return "unknown" if found is None else found

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
        finally:
            self._sender = None

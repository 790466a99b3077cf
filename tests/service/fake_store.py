"""A history store without a server: answers from a dict, faults on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from service.store.contract import (
    HistoryEntry,
    Interaction,
    Shown,
    ShownTo,
    StoreUnavailableError,
)


class FakeStore:
    """The HistoryStore in a dict; `away` makes every call fail, `pause` makes it slow."""

    def __init__(self) -> None:
        self.users: dict[str, dict[tuple[str, str], HistoryEntry]] = {}
        self.shown: dict[tuple[str, str], Shown] = {}
        self.away = False
        self.pause_seconds = 0.0
        self.reads = 0
        self.closed = False

    async def append(self, interactions: Sequence[Interaction]) -> list[bool]:
        await self._reach()
        fresh = []
        for one in interactions:
            key = (
                ("event", one.event_id)
                if one.event_id
                else (one.external_id, str(one.timestamp_ms))
            )
            user = self.users.setdefault(one.user_id, {})
            fresh.append(key not in user)
            user.setdefault(
                key, HistoryEntry(external_id=one.external_id, timestamp_ms=one.timestamp_ms)
            )
        return fresh

    async def recent(self, user_id: str, limit: int) -> list[str]:
        self.reads += 1
        return [entry.external_id for entry in await self.entries(user_id, limit)]

    async def entries(self, user_id: str, limit: int) -> list[HistoryEntry]:
        await self._reach()
        found = sorted(self.users.get(user_id, {}).values(), key=lambda entry: entry.timestamp_ms)
        return found[-limit:]

    async def replace(self, user_id: str, entries: Sequence[HistoryEntry]) -> None:
        await self._reach()
        self.users[user_id] = {
            (entry.external_id, str(entry.timestamp_ms)): entry for entry in entries
        }

    async def merge(self, user_id: str, source_user_id: str) -> int:
        await self._reach()
        user = self.users.setdefault(user_id, {})
        user |= self.users.pop(source_user_id, {})
        return len(user)

    async def delete(self, user_id: str) -> bool:
        await self._reach()
        return self.users.pop(user_id, None) is not None

    async def remember(self, shown: Sequence[ShownTo]) -> None:
        await self._reach()
        self.shown |= {(one.user_id, one.recommendation_id): one.shown for one in shown}

    async def recall(self, named: Sequence[tuple[str, str]]) -> list[Shown | None]:
        await self._reach()
        return [self.shown.get(pair) for pair in named]

    async def ping(self) -> bool:
        return not self.away

    async def close(self) -> None:
        self.closed = True

    async def _reach(self) -> None:
        if self.pause_seconds:
            await asyncio.sleep(self.pause_seconds)
        if self.away:
            raise StoreUnavailableError("secret internals of the store")

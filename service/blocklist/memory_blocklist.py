"""The blocklist of a single process without Redis."""

from __future__ import annotations

import time
from collections.abc import Sequence

from service.blocklist.contract import BlocklistFullError, Change, Listing


class MemoryBlocklist:
    """The BlocklistStore in a dict, lost with the process; holds at most `limit` items."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._listing = Listing(revision=0, since_ms={})

    async def read(self, known: int | None) -> Listing | None:
        """Return the list; None when its revision is still `known`."""
        return None if known == self._listing.revision else self._listing

    async def change(self, add: Sequence[str], remove: Sequence[str]) -> Change:
        """Block `add` and unblock `remove`; BlocklistFullError."""
        gone = set(remove)
        return self._hold([*(item for item in self._listing.since_ms if item not in gone), *add])

    async def replace(self, items: Sequence[str]) -> Change:
        """Make the list hold just `items`; BlocklistFullError."""
        return self._hold(items)

    async def close(self) -> None:
        """Hold nothing open."""

    def _hold(self, items: Sequence[str]) -> Change:
        before, now = self._listing.since_ms, time.time_ns() // 1_000_000
        after = {item: before.get(item, now) for item in items}
        if len(after) > self._limit:
            raise BlocklistFullError(size=len(after), limit=self._limit)
        self._listing = Listing(revision=self._listing.revision + 1, since_ms=after)
        return Change(
            added=len(after.keys() - before.keys()),
            removed=len(before.keys() - after.keys()),
            size=len(after),
            revision=self._listing.revision,
        )

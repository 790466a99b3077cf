"""The blocklist as it holds in this process: followed, never lost for want of an answer."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Iterable, Sequence
from typing import Literal

from service.blocklist.contract import BlocklistObserver, BlocklistStore, Change, Listing
from service.engine.contract import NOTHING_BLOCKED, Blocked
from service.store.contract import StoreUnavailableError

log = logging.getLogger("canet.blocklist")


class Blocklist:
    """Follows the kept list; `current` is what every query carries.

    What was read last holds while the store is away. It holds also when the store comes back
    without any list: an emptied store must not unblock anything. For one event loop.
    """

    def __init__(
        self,
        store: BlocklistStore,
        *,
        observer: BlocklistObserver,
        poll_seconds: float,
        limit: int,
    ) -> None:
        self._store = store
        self._observer = observer
        self._poll_seconds = poll_seconds
        self.limit = limit
        self._listing: Listing | None = None
        self._current = NOTHING_BLOCKED
        self._state: Literal["read", "away", "lost"] = "read"
        # An answer that was asked for earlier must not be taken for news.
        self._reading = asyncio.Lock()
        self._follower: asyncio.Task[None] | None = None

    @property
    def current(self) -> Blocked:
        """What nobody is shown, as this process knows it."""
        return self._current

    @property
    def known(self) -> bool:
        """Whether the list was read since the start."""
        return self._listing is not None

    async def start(self) -> None:
        """Read the list, then follow it until `stop`. Returns also when it cannot be read yet."""
        await self._look()
        self._follower = asyncio.create_task(self._follow(), name="blocklist")

    async def stop(self) -> None:
        """Stop following. Idempotent."""
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)
        await self._store.close()

    async def listing(self) -> Listing:
        """Return the kept list, read now. Raises StoreUnavailableError."""
        found = await self._store.read(None)
        assert found is not None, "an unknown revision is never the current one"
        return found

    async def change(self, add: Sequence[str], remove: Sequence[str]) -> Change:
        """Block `add` and unblock `remove`; it holds here on return, elsewhere at the next poll.

        Raises BlocklistFullError and StoreUnavailableError.
        """
        await self._refresh()
        if self._state == "lost" and self._listing is not None:
            # On top of what holds, not of nothing: that would unblock all the rest.
            gone = set(remove)
            held = [item for item in self._listing.since_ms if item not in gone]
            return await self.replace([*dict.fromkeys([*held, *add])])
        done = await self._store.change(add, remove)
        await self._refresh()
        return done

    async def replace(self, items: Sequence[str]) -> Change:
        """Block just `items`; as `change`."""
        done = await self._store.replace(items)
        await self._refresh()
        return done

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._poll_seconds)
            try:
                await self._look()
            except Exception:  # the follower outlives whatever a poll runs into
                log.exception("reading the blocklist failed")

    async def _look(self) -> None:
        try:
            await self._refresh()
        except StoreUnavailableError as error:
            if self._state != "away":
                log.warning("the blocklist cannot be read, the last known one holds: %s", error)
            self._state = "away"

    async def _refresh(self) -> None:
        async with self._reading:
            await self._read()

    async def _read(self) -> None:
        held = self._listing
        found = await self._store.read(None if held is None else held.revision)
        if found is not None:
            if found.revision == 0 and held is not None:
                if self._state != "lost":
                    log.error(
                        "the store has lost the blocklist; the %d items known here stay blocked "
                        "until somebody sets it again",
                        len(held.since_ms),
                    )
                self._state = "lost"
                return
            if held is None or found.revision != held.revision:
                self._hold(found)
        self._state = "read"
        self._observer.blocklist_read(time.time())

    def _hold(self, found: Listing) -> None:
        self._listing = found
        self._current = blocked(found.since_ms)
        self._observer.blocklist_holds(len(found.since_ms))
        log.info("%d items are blocked (revision %d)", len(found.since_ms), found.revision)


def blocked(external_ids: Iterable[str]) -> Blocked:
    """Return these items as a query carries them."""
    items = frozenset(external_ids)
    if not items:
        return NOTHING_BLOCKED
    digest = hashlib.blake2b(digest_size=16)
    for item in sorted(items):
        digest.update(item.encode() + b"\0")
    return Blocked(items, digest.hexdigest())

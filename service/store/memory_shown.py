"""What users were shown, in this process: by the rules of the script that keeps it in Redis."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from service.store.contract import FORGET_SECONDS, MOST_SHOWN, Shown, ShownTo


@dataclass(slots=True)
class _List:
    records: dict[str, Shown] = field(default_factory=dict)
    until: float = 0.0


class ShownLists:
    """The newest recommendations of each user, for `ttl_seconds` after the last one.

    `clock` returns Unix seconds.
    """

    def __init__(self, *, ttl_seconds: float, clock: Callable[[], float]) -> None:
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        self._lists: dict[str, _List] = {}
        self._forgotten: dict[str, float] = {}
        self._next_sweep = clock() + ttl_seconds

    def add(self, one: ShownTo) -> None:
        """Keep one, unless its user was forgotten since it was made."""
        now = self._clock()
        if now >= self._next_sweep:
            self._sweep(now)
        made_at = now - (time.monotonic() - one.made_at)
        if made_at <= self._forgotten.get(one.user_id, 0.0):
            return
        mine = self._live(one.user_id, now)
        mine.records[one.recommendation_id] = one.shown
        mine.until = now + self._ttl_seconds
        for name in sorted(mine.records)[:-MOST_SHOWN]:
            del mine.records[name]
        self._lists[one.user_id] = mine

    def find(self, user_id: str, recommendation_id: str) -> Shown | None:
        """Return what it showed; None when it was not this user's, or is no longer known."""
        return self._live(user_id, self._clock()).records.get(recommendation_id)

    def merge(self, user_id: str, source_user_id: str) -> None:
        """Give the user what the source was shown, and forget the source."""
        now = self._clock()
        source = self._live(source_user_id, now)
        self.forget(source_user_id)
        if source.records:
            mine = self._live(user_id, now)
            mine.records |= source.records
            mine.until = max(mine.until, source.until)
            self._lists[user_id] = mine

    def forget(self, user_id: str) -> bool:
        """Forget what the user was shown; True when there was something to forget."""
        now = self._clock()
        held = bool(self._live(user_id, now).records)
        self._lists.pop(user_id, None)
        for gone in [user for user, at in self._forgotten.items() if now - at > FORGET_SECONDS]:
            del self._forgotten[gone]
        self._forgotten[user_id] = now
        return held

    def _live(self, user_id: str, now: float) -> _List:
        found = self._lists.get(user_id)
        return _List() if found is None or now >= found.until else found

    def _sweep(self, now: float) -> None:
        self._next_sweep = now + self._ttl_seconds
        self._lists = {user: one for user, one in self._lists.items() if now < one.until}

"""Histories in this process: the same contract in a dict, for tests and for want of a server."""

from __future__ import annotations

import contextlib
import json
import os
import time
from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.events import event_identity
from service.store.contract import HistoryEntry, Interaction, Shown, ShownTo
from service.store.keys import check_entry, check_user_id
from service.store.memory_shown import ShownLists

_SNAPSHOT_FORMAT = 1

# One remembered event: milliseconds, order of arrival, identity, item.
_Row = tuple[int, int, bytes, str]


@dataclass(slots=True)
class _History:
    rows: list[_Row] = field(default_factory=list)
    touched_seconds: float = 0.0


class MemoryHistoryStore:
    """The HistoryStore of a single process; no event stream.

    Args:
        history_max: Entries kept per user.
        history_ttl_seconds: A history untouched for so long is forgotten.
        shown_ttl_seconds: So long it is known what a user was shown; never in the snapshot.
        snapshot: File to load from now and to write, atomically, on `close` and `save`; without
            one, everything is lost with the process.
        clock: Unix seconds.

    Raises:
        ValueError: The snapshot cannot be read.
    """

    def __init__(
        self,
        *,
        history_max: int = 100,
        history_ttl_seconds: float = 90 * 24 * 3600,
        shown_ttl_seconds: float = 24 * 3600,
        snapshot: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if history_max < 1:
            raise ValueError(f"history_max is {history_max}; it must be at least 1")
        self._history_max = history_max
        self._ttl_seconds = history_ttl_seconds
        self._snapshot = snapshot
        self._clock = clock
        self._arrivals = 0
        self._users: dict[str, _History] = {}
        self._shown = ShownLists(ttl_seconds=shown_ttl_seconds, clock=clock)
        self._next_sweep = clock() + history_ttl_seconds
        if snapshot is not None and snapshot.exists():
            self._load(snapshot)

    async def append(self, interactions: Sequence[Interaction]) -> list[bool]:
        """Remember the interactions; True where new."""
        for event in interactions:
            check_user_id(event.user_id)
            check_entry(event.external_id, event.timestamp_ms)
        histories = {
            event.user_id: self._history(event.user_id, make=True) for event in interactions
        }
        new = [
            self._place(
                histories[event.user_id],
                event.timestamp_ms,
                event_identity(event.external_id, event.timestamp_ms, event.event_id),
                event.external_id,
            )
            for event in interactions
        ]
        for history in histories.values():
            self._trim(history)
        return new

    async def recent(self, user_id: str, limit: int) -> list[str]:
        """Return the newest `limit` external ids, oldest first."""
        return [entry.external_id for entry in await self.entries(user_id, limit)]

    async def entries(self, user_id: str, limit: int) -> list[HistoryEntry]:
        """Return the newest `limit` entries, oldest first."""
        check_user_id(user_id)
        rows = self._history(user_id).rows[-limit:] if limit > 0 else []
        return [HistoryEntry(external_id=row[3], timestamp_ms=row[0]) for row in rows]

    async def replace(self, user_id: str, entries: Sequence[HistoryEntry]) -> None:
        """Replace the user's whole history in one step."""
        check_user_id(user_id)
        for entry in entries:
            check_entry(entry.external_id, entry.timestamp_ms)
        self._users.pop(user_id, None)
        history = self._history(user_id, make=bool(entries))
        for entry in entries:
            identity = event_identity(entry.external_id, entry.timestamp_ms, None)
            self._place(history, entry.timestamp_ms, identity, entry.external_id)
        self._trim(history)

    async def merge(self, user_id: str, source_user_id: str) -> int:
        """Union the source's entries into the user's, delete the source; return the new length.

        Raises:
            ValueError: Both are the same user.
        """
        check_user_id(user_id)
        check_user_id(source_user_id)
        if user_id == source_user_id:
            raise ValueError("a user cannot be merged into itself; give two different ids")
        source = self._history(source_user_id)
        history = self._history(user_id, make=bool(source.rows))
        for milliseconds, _, identity, item in source.rows:
            self._place(history, milliseconds, identity, item)
        self._trim(history)
        self._users.pop(source_user_id, None)
        self._shown.merge(user_id, source_user_id)
        return len(history.rows)

    async def delete(self, user_id: str) -> bool:
        """Forget the user; True when there was something to forget."""
        check_user_id(user_id)
        held = bool(self._history(user_id).rows)
        self._users.pop(user_id, None)
        return self._shown.forget(user_id) or held

    async def remember(self, shown: Sequence[ShownTo]) -> None:
        """Keep what was recommended, the newest of each user."""
        for one in shown:
            self._shown.add(one)

    async def recall(self, named: Sequence[tuple[str, str]]) -> list[Shown | None]:
        """Return what each (user id, recommendation id) showed, None where nothing is known."""
        return [self._shown.find(user_id, name) for user_id, name in named]

    async def ping(self) -> bool:
        """Return True."""
        return True

    async def close(self) -> None:
        """Write the snapshot, if there is one to write."""
        self.save()

    def save(self) -> None:
        """Write the snapshot atomically: readers find the old one or the new one, whole."""
        if self._snapshot is None:
            return
        users = {
            user_id: [
                history.touched_seconds,
                [[row[0], row[2].hex(), row[3]] for row in history.rows],
            ]
            for user_id, history in self._users.items()
        }
        temporary = self._snapshot.with_name(f".{self._snapshot.name}.{os.getpid()}")
        try:
            with temporary.open("w", encoding="utf-8") as file:
                json.dump({"format": _SNAPSHOT_FORMAT, "users": users}, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._snapshot)
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()

    def _history(self, user_id: str, *, make: bool = False) -> _History:
        """The user's live history; an empty one, not kept unless `make`, where there is none."""
        now = self._clock()
        if now >= self._next_sweep:
            self._sweep(now)
        history = self._users.get(user_id)
        if history is None or now - history.touched_seconds >= self._ttl_seconds:
            self._users.pop(user_id, None)
            history = _History(touched_seconds=now)
        if make:
            self._users[user_id] = history
        return history

    def _sweep(self, now: float) -> None:
        """Drop what nobody touched, so that memory follows the users who are alive."""
        self._next_sweep = now + self._ttl_seconds
        for user_id, history in list(self._users.items()):
            if now - history.touched_seconds >= self._ttl_seconds:
                del self._users[user_id]

    def _place(self, history: _History, milliseconds: int, identity: bytes, item: str) -> bool:
        if any(row[2] == identity for row in history.rows):
            return False
        self._arrivals += 1
        insort(history.rows, (milliseconds, self._arrivals, identity, item))
        history.touched_seconds = self._clock()
        return True

    def _trim(self, history: _History) -> None:
        """Keep the newest; after a whole call, so that repeats within it are recognised."""
        del history.rows[: -self._history_max]

    def _load(self, snapshot: Path) -> None:
        try:
            content: Any = json.loads(snapshot.read_text(encoding="utf-8"))
            if content["format"] != _SNAPSHOT_FORMAT:
                raise ValueError(f"format {content['format']} is not {_SNAPSHOT_FORMAT}")
            for user_id, (touched, rows) in content["users"].items():
                history = _History(touched_seconds=float(touched))
                for milliseconds, identity, item in rows:
                    check_entry(item, milliseconds)
                    self._arrivals += 1
                    row = (milliseconds, self._arrivals, bytes.fromhex(identity), item)
                    history.rows.append(row)
                self._users[user_id] = history
        except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(
                f"history snapshot {snapshot} cannot be read ({error}); restore it or move it away"
            ) from error

"""What the service asks of a history store. Histories hold external ids, never table rows.

Beside a user's history the store holds, for a while, what was recommended to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

MOST_SHOWN = 32
"""So many recommendations are remembered for a user; the oldest go first."""
FORGET_SECONDS = 60
"""What was recommended before a user was forgotten and arrives within this time is not kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interaction:
    """One event of one user. `timestamp_ms` is Unix milliseconds.

    `event_id` makes the event idempotent; without one, the same (user, item, timestamp) is the
    same event.
    """

    user_id: str
    external_id: str
    timestamp_ms: int
    event_id: str | None = None
    type: str = "view"
    recommendation_id: str | None = None
    value: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One remembered item, with Unix milliseconds."""

    external_id: str
    timestamp_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """By which variant and submodel (None: no network) a list was made, and which items it held."""

    variant: str
    submodel: str | None
    fingerprints: bytes
    """Four bytes an item: enough to know one again, too few to tell which it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownTo:
    """One recommendation to be remembered for its user. `made_at` is `time.monotonic()`."""

    user_id: str
    recommendation_id: str
    shown: Shown
    made_at: float


class StoreUnavailableError(Exception):
    """The store did not answer in time; nothing was acknowledged."""


class HistoryStore(Protocol):
    """Users' recent items and what they were shown.

    Every method raises StoreUnavailableError when the store is away.
    """

    async def append(self, interactions: Sequence[Interaction]) -> list[bool]:
        """Make the interactions durable; True where new, False where already known.

        The next `recent` of the same user reflects them. Atomic per user.
        """
        ...

    async def recent(self, user_id: str, limit: int) -> list[str]:
        """Return the newest `limit` external ids, oldest first; one round trip."""
        ...

    async def entries(self, user_id: str, limit: int) -> list[HistoryEntry]:
        """Return the newest `limit` entries, oldest first."""
        ...

    async def replace(self, user_id: str, entries: Sequence[HistoryEntry]) -> None:
        """Replace the user's whole history in one step."""
        ...

    async def merge(self, user_id: str, source_user_id: str) -> int:
        """Union the source's entries into the user's, delete the source; return the new length.

        What the source was shown, the user was shown.
        """
        ...

    async def delete(self, user_id: str) -> bool:
        """Forget the user; True when there was something to forget. Idempotent."""
        ...

    async def remember(self, shown: Sequence[ShownTo]) -> None:
        """Keep what was recommended, the newest MOST_SHOWN of a user; one round trip.

        What was made before its user was forgotten is left out.
        """
        ...

    async def recall(self, named: Sequence[tuple[str, str]]) -> list[Shown | None]:
        """Return what each (user id, recommendation id) showed, None where nothing is known.

        One round trip. A recommendation is another user's unless it was this one's.
        """
        ...

    async def ping(self) -> bool:
        """Return whether the store answers right now; never raises."""
        ...

    async def close(self) -> None:
        """Release connections; the store is not used afterwards."""
        ...

"""What is asked of the place that keeps the blocklist, and what is told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The kept list: external id -> since when it is blocked, Unix milliseconds.

    `revision` rises with every change; 0 where nobody ever changed it.
    """

    revision: int
    since_ms: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a change came to: how many were added and removed, and what holds afterwards."""

    added: int
    removed: int
    size: int
    revision: int


class BlocklistFullError(Exception):
    """The change would make the list longer than its bound; nothing was changed."""

    def __init__(self, *, size: int, limit: int) -> None:
        super().__init__(f"the list would hold {size} items")
        self.size = size
        self.limit = limit


class BlocklistStore(Protocol):
    """Keeps the list for all replicas. Every method raises StoreUnavailableError when away."""

    async def read(self, known: int | None) -> Listing | None:
        """Return the list; None when its revision is still `known`."""
        ...

    async def change(self, add: Sequence[str], remove: Sequence[str]) -> Change:
        """Block `add` and unblock `remove`, in one step; BlocklistFullError."""
        ...

    async def replace(self, items: Sequence[str]) -> Change:
        """Make the list hold just `items`, in one step; BlocklistFullError."""
        ...

    async def close(self) -> None:
        """Release connections. Idempotent."""
        ...


class BlocklistObserver(Protocol):
    """Told what holds in this process. `Metrics` is one."""

    def blocklist_holds(self, size: int) -> None:
        """Note how many items are blocked from now on."""
        ...

    def blocklist_read(self, at_unix: float) -> None:
        """Note when the kept list was last found to be the one that holds."""
        ...

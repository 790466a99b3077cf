"""Which version a model root asks for, and how this process makes it ask for another one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from models.checkpoint import store
from models.checkpoint.errors import CheckpointError, Reason
from service.lifecycle.loader import RefusalError
from service.lifecycle.workshop import Workshop

# CURRENT cannot be moved, but an answer from memory can be given all the same.
_ONLY_IN_MEMORY: Final = frozenset({Reason.NOT_WRITABLE, Reason.DISK_FULL})


class Pointer:
    """CURRENT of a model root, or the pin that stands in its place. All I/O is the workshop's.

    `moved` is told of every version that this pointer made CURRENT name.
    """

    def __init__(
        self, workshop: Workshop, *, pinned: str | None, moved: Callable[[str], None]
    ) -> None:
        self._workshop = workshop
        self._root: Path = workshop.root
        self._pinned = pinned
        self._moved = moved

    @property
    def pinned(self) -> str | None:
        """The version that is served whatever CURRENT names."""
        return self._pinned

    async def wanted(self) -> str | None:
        """Return the pinned version or what CURRENT names, None without one; CheckpointError."""
        if self._pinned is not None:
            return self._pinned
        return await self._workshop.run(lambda: store.current(self._root))

    async def named(self) -> str | None:
        """Return what CURRENT names, None also when it is damaged; never raises."""
        return await self._workshop.run(lambda: store.current_or_none(self._root))

    async def ways_back(self) -> list[str]:
        """Return the versions to go back to, the first choice first; CheckpointError."""
        return await self._workshop.run(lambda: store.rollback_targets(self._root))

    async def move_to(self, version: str) -> str | None:
        """Make CURRENT name `version` and remember what it named before; see `move_back_to`."""
        return await self._move(version, lambda: store.set_current(self._root, version))

    async def move_back_to(self, version: str) -> str | None:
        """Make CURRENT name `version` and forget what was named since. With a pin, do nothing.

        Returns why `version` can be served from memory only, None when CURRENT names it. Raises
        RefusalError; then CURRENT is as it was.
        """
        return await self._move(version, lambda: store.rollback(self._root, to=version))

    async def _move(self, version: str, move: Callable[[], object]) -> str | None:
        if self._pinned is not None:
            return None
        try:
            await self._workshop.run(move)
        except CheckpointError as error:
            if error.reason not in _ONLY_IN_MEMORY:
                raise RefusalError.of(error) from None
            return (
                f"version {version} serves from memory only: CURRENT could not be moved "
                f"({error}); a restart and other replicas serve what CURRENT names"
            )
        self._moved(version)
        return None

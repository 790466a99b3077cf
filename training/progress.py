"""How long work tells a person how far it is. The command line draws bars; tests stay silent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]


class Progress(Protocol):
    """Somewhere to report to."""

    def log(self, message: str) -> None:
        """Show one line (or a few) that stays."""
        ...

    def track(self, description: str, total: int) -> AbstractContextManager[Advance]:
        """Show a bar while the context lasts; call what it gives with the units just done."""
        ...


class Silent:
    """Reports to nobody."""

    def log(self, message: str) -> None:
        """Drop the line."""

    @contextmanager
    def track(self, description: str, total: int) -> Iterator[Advance]:
        """Show nothing."""
        yield lambda units: None

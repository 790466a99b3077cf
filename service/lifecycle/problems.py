"""What an operator should know about what serves, by what it is about."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Literal

logger = logging.getLogger(__name__)

About = Literal["current", "attempt", "serving"]


class Problems:
    """At most one sentence each; `changed` is called after every change.

    `current`: why what CURRENT or the pin names cannot serve. `attempt`: why a caller's wish was
    refused. `serving`: what is unusual about what serves.
    """

    def __init__(self, changed: Callable[[], None], *, current: str) -> None:
        self._changed = changed
        self._told: dict[About, str] = {"current": current}

    def __contains__(self, about: About) -> bool:
        return about in self._told

    def __iter__(self) -> Iterator[About]:
        return iter(self._told)

    def of(self, about: About) -> str:
        """Return the sentence about this; empty without one."""
        return self._told.get(about, "")

    @property
    def text(self) -> str | None:
        """All sentences; None without any."""
        return "; ".join(self._told.values()) or None

    def complain(self, about: About, message: str) -> None:
        """Replace the sentence about this, and log it when it is new."""
        if self._told.get(about) != message:
            logger.warning("%s", message)
        self._told[about] = message
        self._changed()

    def settle(self, *about: About) -> None:
        """Forget the sentences about these, about everything when none is named."""
        for one in about or tuple(self._told):
            self._told.pop(one, None)
        self._changed()

"""Which versions were refused, so that none is tried twice as it stands."""

from __future__ import annotations

import time

from service.lifecycle.loader import Fingerprint, RefusalError

_REMEMBERED = 100


class Refusals:
    """Remembers the newest refusals; what may pass by itself is due again after a while."""

    def __init__(self, *, retry_seconds: float) -> None:
        self._retry_seconds = retry_seconds
        self._refused: dict[str, tuple[Fingerprint, float]] = {}

    def __contains__(self, version: str) -> bool:
        return version in self._refused

    def remember(self, version: str, refusal: RefusalError) -> None:
        """Note that `version` was refused as its directory stood."""
        # A monotonic clock: the wall clock may be set while the service runs.
        due = time.monotonic() + (self._retry_seconds if refusal.transient else float("inf"))
        self._refused[version] = (refusal.fingerprint, due)
        if len(self._refused) > _REMEMBERED:
            del self._refused[next(iter(self._refused))]

    def forget(self, version: str) -> None:
        """Note that `version` was accepted."""
        self._refused.pop(version, None)

    def stands(self, version: str, fingerprint: Fingerprint) -> bool:
        """Whether trying `version` again would be in vain: unchanged, and no retry is due."""
        known = self._refused.get(version)
        return known is not None and known[0] == fingerprint and time.monotonic() < known[1]

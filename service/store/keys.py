"""The documented keys. One user, one cluster slot: all of a user's keys share one hash tag."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from urllib.parse import quote

EVENT_STREAMS = 16
IDENTITY_BYTES = 8
MAX_TIMESTAMP_MS = 2**43 - 1  # year 2248; with ten bits of tie-break still exact in a double


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Names of everything the service keeps in Redis."""

    prefix: str = "canet:1"

    def history(self, user_id: str) -> str:
        """Sorted set: score = milliseconds (plus tie-break), member = identity + item id."""
        return self._user(user_id, "h")

    def version(self, user_id: str) -> str:
        """Integer that rises with every change of the history, deletion included."""
        return self._user(user_id, "v")

    def results(self, user_id: str) -> str:
        """Hash of cached answers."""
        return self._user(user_id, "r")

    def impressions(self, user_id: str) -> str:
        """Hash from recommendation id to the items shown."""
        return self._user(user_id, "i")

    def stream(self, user_id: str) -> str:
        """Stream that feeds the trainer; one of EVENT_STREAMS, fixed per user."""
        return f"{self.prefix}:ev:{{{zlib.crc32(user_id.encode()) % EVENT_STREAMS}}}"

    def streams(self) -> tuple[str, ...]:
        """Every event stream."""
        return tuple(f"{self.prefix}:ev:{{{shard}}}" for shard in range(EVENT_STREAMS))

    def _user(self, user_id: str, kind: str) -> str:
        # Percent-encoding leaves no brace in the id that could end the hash tag early.
        return f"{self.prefix}:{{u:{quote(user_id, safe='')}}}:{kind}"


def event_identity(external_id: str, timestamp_ms: int, event_id: str | None) -> bytes:
    """Return the 8 bytes by which one user's event is known again.

    The user is no part of it: a merge recognises what both users hold.
    """
    text = f"t:{timestamp_ms}:{external_id}" if event_id is None else f"e:{event_id}"
    return hashlib.blake2b(text.encode(), digest_size=IDENTITY_BYTES).digest()


def check_user_id(user_id: str) -> None:
    """Raise ValueError for an id no store can hold."""
    if not user_id:
        raise ValueError("user_id is empty; it must have at least 1 character")


def check_entry(external_id: str, timestamp_ms: int) -> None:
    """Raise ValueError for an entry no store can hold."""
    if not external_id:
        raise ValueError("item_id is empty; it must have at least 1 character")
    if not 0 <= timestamp_ms <= MAX_TIMESTAMP_MS:
        raise ValueError(
            f"timestamp {timestamp_ms} ms is outside 0..{MAX_TIMESTAMP_MS}; give Unix milliseconds"
        )

"""The documented keys. One user, one cluster slot: all of a user's keys share one hash tag."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

from models.events import EVENT_STREAMS, KEY_PREFIX, stream_key, stream_shard, wishes_key

# What percent-encoding leaves as it is: most ids.
_PLAIN = re.compile(r"[A-Za-z0-9_.~-]+")

MAX_TIMESTAMP_MS = 2**43 - 1  # year 2248; with ten bits of tie-break still exact in a double


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Names of everything the service keeps in Redis."""

    prefix: str = KEY_PREFIX

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
        """Hash from recommendation id to what it showed."""
        return self._user(user_id, "i")

    def forgotten(self, user_id: str) -> str:
        """Unix milliseconds of the last deletion, for a minute: older answers may be on the way."""
        return self._user(user_id, "d")

    def stream(self, user_id: str) -> str:
        """Stream that feeds the trainer; one of 16, fixed per user."""
        return stream_key(self.prefix, stream_shard(user_id))

    def wishes(self, user_id: str) -> str:
        """List of the deletions and merges in the user's stream that no refresh has taken yet."""
        return wishes_key(self.prefix, stream_shard(user_id))

    def streams(self) -> tuple[str, ...]:
        """Every event stream."""
        return tuple(stream_key(self.prefix, shard) for shard in range(EVENT_STREAMS))

    def _user(self, user_id: str, kind: str) -> str:
        # Percent-encoding leaves no brace in the id that could end the hash tag early.
        told = user_id if _PLAIN.fullmatch(user_id) else quote(user_id, safe="")
        return f"{self.prefix}:{{u:{told}}}:{kind}"


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

"""The event streams seen by the trainer: read through a consumer group, trimmed once safe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import redis
from redis.exceptions import ResponseError

from models.events import KEY_PREFIX, stream_key, wishes_key
from training.refresh.entries import StreamId

GROUP = "trainer"
# One name: the lock lets one trainer read at a time, and it takes over what a killed one left.
CONSUMER = "trainer"

_TRIM = """
local removed = redis.call('XTRIM', KEYS[1], 'MINID', '=', ARGV[1])
if removed > 0 then redis.call('INCRBY', KEYS[2], removed) end
return removed
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One delivered entry; `fields` is None when it was trimmed away before it was read."""

    at: StreamId
    fields: Mapping[bytes, bytes] | None


class EventStream:
    """One shard's stream. Every method raises redis.RedisError when the server is away."""

    def __init__(self, client: redis.Redis, shard: int, *, prefix: str = KEY_PREFIX) -> None:
        self.shard = shard
        self._client: Any = client
        self._key = stream_key(prefix, shard)
        self._wishes_key = wishes_key(prefix, shard)
        self._trimmed_key = f"{prefix}:trainer:trimmed:{{{shard}}}"

    def open(self) -> StreamId | None:
        """Make sure the group exists; return the newest entry's id, None without a stream."""
        if not self._client.exists(self._key):
            return None
        try:
            self._client.xgroup_create(self._key, GROUP, id="0")
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
        return StreamId.parse(self._info()["last-generated-id"])

    def pending(self, after: StreamId, count: int) -> list[Delivery]:
        """Return at most `count` entries after `after` that were delivered and never acked."""
        return self._read(str(after), count)

    def new(self, count: int) -> list[Delivery]:
        """Return at most `count` entries that were never delivered."""
        return self._read(">", count)

    def acknowledge(self, ids: list[StreamId]) -> None:
        """Take the entries, now safe elsewhere, off the group's pending list."""
        if ids:
            self._client.xack(self._key, GROUP, *map(str, ids))

    def trim(self, upto: StreamId) -> int:
        """Remove every entry up to and including `upto`; return how many."""
        least = StreamId(upto.ms, upto.seq + 1)
        return int(self._client.eval(_TRIM, 2, self._key, self._trimmed_key, str(least)))

    def wishes(self, end: StreamId) -> list[Delivery | None]:
        """Return the waiting deletions and merges up to `end`, as entries; None for others'."""
        found: list[Delivery | None] = []
        if self._client.type(self._wishes_key) != b"list":
            return found
        for text in self._client.lrange(self._wishes_key, 0, -1):
            wish = _wish(text)
            if wish is not None and wish.at > end:
                break
            found.append(wish)
        return found

    def grant(self, count: int) -> None:
        """Take the oldest `count` wishes, now safe elsewhere, off the list."""
        if count:
            self._client.ltrim(self._wishes_key, count, -1)

    def lost(self) -> int:
        """Return how many entries fell to the stream's bound before they were drained, ever.

        0 where the server does not count additions (before Redis 7).
        """
        if not self._client.exists(self._key):
            return 0
        info = self._info()
        if "entries-added" not in info:
            return 0
        ours = int(self._client.get(self._trimmed_key) or 0)
        return max(0, int(info["entries-added"]) - int(info["length"]) - ours)

    def _info(self) -> dict[str, Any]:
        found: dict[str, Any] = self._client.xinfo_stream(self._key)
        return {_name(key): value for key, value in found.items()}

    def _read(self, start: str, count: int) -> list[Delivery]:
        reply = self._client.xreadgroup(GROUP, CONSUMER, {self._key: start}, count=count)
        # RESP2 gives [[key, entries]], RESP3 {key: [entries]}; there is one key or none.
        if isinstance(reply, dict):
            entries = [entry for batches in reply.values() for batch in batches for entry in batch]
        else:
            entries = [entry for _, batch in reply for entry in batch]
        return [Delivery(at=StreamId.parse(at), fields=fields or None) for at, fields in entries]


def _wish(text: bytes) -> Delivery | None:
    place, _, rest = text.partition(b" ")
    op, _, data = rest.partition(b" ")
    try:
        return Delivery(at=StreamId.parse(place), fields={b"op": op, b"data": data})
    except ValueError:
        return None


def _name(key: bytes | str) -> str:
    return key.decode() if isinstance(key, bytes) else key

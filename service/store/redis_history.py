"""Histories in Redis: one sorted set per user, one round trip per read, one script per write."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

from models.events import IDENTITY_BYTES, event_identity
from service.store import scripts
from service.store.contract import HistoryEntry, Interaction, Shown, ShownTo
from service.store.keys import MAX_TIMESTAMP_MS, Keys, check_entry, check_user_id
from service.store.redis_client import Command, Observer, RedisClient, Script
from service.store.redis_config import RedisConfig
from service.store.shown import decode, encode

_APPEND = Script(scripts.APPEND)
_REPLACE = Script(scripts.REPLACE)
_MERGE = Script(scripts.MERGE)
_DELETE = Script(scripts.DELETE)
_REMEMBER = Script(scripts.REMEMBER)
_DAY_SECONDS = 24 * 3600


def _ignore(op: str, seconds: float, kind: str | None) -> None:
    """Observe nothing."""


class RedisHistoryStore:
    """The HistoryStore over a Redis-compatible server (6.2 or newer, not a cluster).

    Entries keep the order of their milliseconds and, within one, of their arrival. An event is
    known again while it is in the history; one that was trimmed away long ago and comes again
    is streamed again, with the same identity. What is no history entry (a foreign type,
    truncated members) reads as absent.
    """

    def __init__(self, config: RedisConfig, *, observe: Observer = _ignore) -> None:
        self.keys = Keys(prefix=config.key_prefix)
        self._client = RedisClient(config, observe)
        ttl = config.history_ttl_seconds
        # The version outlives every cached answer, so that a deleted user's answers stay dead.
        self._bounds = (config.history_max, ttl, max(ttl, _DAY_SECONDS), config.stream_max_length)
        self._shown_ttl_seconds = config.shown_ttl_seconds

    @property
    def is_open(self) -> bool:
        """Whether the circuit breaker refuses calls."""
        return self._client.is_open

    @property
    def in_flight(self) -> int:
        """Exchanges with the server under way, those that wait for a connection included."""
        return self._client.in_flight

    async def append(self, interactions: Sequence[Interaction]) -> list[bool]:
        """Make the interactions durable, history and event stream in one step per user.

        Returns True where new. On StoreUnavailableError any user's part may have been applied:
        send all again, what is known is recognised.
        """
        by_user: dict[str, list[int]] = {}
        for position, interaction in enumerate(interactions):
            check_user_id(interaction.user_id)
            check_entry(interaction.external_id, interaction.timestamp_ms)
            by_user.setdefault(interaction.user_id, []).append(position)
        if not by_user:
            return []
        calls: list[tuple[Sequence[str], Sequence[Any]]] = []
        for user_id, positions in by_user.items():
            arguments: list[str | bytes | int] = [*self._bounds]
            for position in positions:
                arguments += _event_arguments(interactions[position])
            calls.append((self._write_keys(user_id), arguments))
        replies = await self._client.write("append", _APPEND, calls)
        new = [False] * len(interactions)
        for positions, reply in zip(by_user.values(), replies, strict=True):
            for position, added in zip(positions, reply, strict=True):
                new[position] = bool(added)
        return new

    async def recent(self, user_id: str, limit: int) -> list[str]:
        """Return the newest `limit` external ids, oldest first; one round trip."""
        members = await self._range("recent", user_id, limit)
        try:
            items: list[str | None] = [member[IDENTITY_BYTES:].decode() for member in members]
        except UnicodeDecodeError:
            items = [_external_id(member) for member in members]
        return [item for item in items if item]

    async def entries(self, user_id: str, limit: int) -> list[HistoryEntry]:
        """Return the newest `limit` entries, oldest first."""
        flat = await self._range("entries", user_id, limit, "WITHSCORES")
        found = []
        for member, score in zip(flat[::2], flat[1::2], strict=True):
            item, milliseconds = _external_id(member), float(score)
            if item is not None and 0 <= milliseconds <= MAX_TIMESTAMP_MS + 1:
                found.append(HistoryEntry(external_id=item, timestamp_ms=int(milliseconds)))
        return found

    async def replace(self, user_id: str, entries: Sequence[HistoryEntry]) -> None:
        """Replace the user's whole history in one step; tell the stream."""
        check_user_id(user_id)
        told = [[entry.external_id, entry.timestamp_ms] for entry in entries]
        arguments = [
            *self._bounds,
            _json({"user": user_id, "entries": told}),
            _json({"user": user_id}),
        ]
        for entry in entries:
            check_entry(entry.external_id, entry.timestamp_ms)
            identity = event_identity(entry.external_id, entry.timestamp_ms, None)
            arguments += [entry.timestamp_ms, identity + entry.external_id.encode()]
        keys = self._write_keys(user_id)
        keys = (*keys[:-1], self.keys.wishes(user_id), keys[-1])
        await self._client.write("replace", _REPLACE, [(keys, arguments)])

    async def merge(self, user_id: str, source_user_id: str) -> int:
        """Union the source's entries into the user's, delete the source; return the new length.

        Raises:
            ValueError: Both are the same user.
        """
        check_user_id(user_id)
        check_user_id(source_user_id)
        if user_id == source_user_id:
            raise ValueError("a user cannot be merged into itself; give two different ids")
        keys = (
            self.keys.history(user_id),
            self.keys.version(user_id),
            self.keys.history(source_user_id),
            self.keys.version(source_user_id),
            self.keys.results(source_user_id),
            self.keys.impressions(source_user_id),
            self.keys.forgotten(source_user_id),
            self.keys.impressions(user_id),
            self.keys.wishes(source_user_id),
            self.keys.stream(source_user_id),
        )
        data = _json({"user": user_id, "source": source_user_id})
        replies = await self._client.write("merge", _MERGE, [(keys, [*self._bounds, data])])
        return int(replies[0])

    async def delete(self, user_id: str) -> bool:
        """Forget history, cached answers and impressions; leave a tombstone for the trainer.

        The version rises, so that nothing cached before can be taken for current.
        """
        check_user_id(user_id)
        keys = (
            self.keys.history(user_id),
            self.keys.version(user_id),
            self.keys.results(user_id),
            self.keys.impressions(user_id),
            self.keys.forgotten(user_id),
            self.keys.wishes(user_id),
            self.keys.stream(user_id),
        )
        arguments = [*self._bounds, _json({"user": user_id})]
        replies = await self._client.write("delete", _DELETE, [(keys, arguments)])
        return bool(replies[0])

    async def remember(self, shown: Sequence[ShownTo]) -> None:
        """Keep what was recommended, the newest of each user; one round trip."""
        if not shown:
            return
        places: dict[str, int] = {}
        keys: list[str] = []
        arguments: list[bytes | str | int] = [self._shown_ttl_seconds]
        now = time.monotonic()
        for one in shown:
            place = places.setdefault(one.user_id, len(places) + 1)
            if place * 2 > len(keys):
                keys += (self.keys.impressions(one.user_id), self.keys.forgotten(one.user_id))
            age_ms = max(0, round((now - one.made_at) * 1000))
            arguments += (place, age_ms, one.recommendation_id, encode(one.shown))
        await self._client.write("remember", _REMEMBER, [(keys, arguments)], replicated=False)

    async def recall(self, named: Sequence[tuple[str, str]]) -> list[Shown | None]:
        """Return what each (user id, recommendation id) showed, None where nothing is known."""
        commands: list[Command] = [
            ("HGET", self.keys.impressions(user_id), recommendation_id)
            for user_id, recommendation_id in named
        ]
        replies = await self._client.read_all("recall", commands)
        return [decode(reply) if isinstance(reply, bytes) else None for reply in replies]

    async def ping(self) -> bool:
        """Return whether the server answers right now; never raises."""
        return await self._client.ping()

    async def close(self) -> None:
        """Finish what is under way and release connections."""
        await self._client.close()

    async def _range(self, op: str, user_id: str, limit: int, *options: str) -> list[bytes]:
        check_user_id(user_id)
        if limit <= 0:
            return []
        command: Command = ("ZRANGE", self.keys.history(user_id), -limit, -1, *options)
        reply = await self._client.read(op, command)
        # The server answered, but with no sorted set of ours: nothing is known of this user.
        return [] if isinstance(reply, ResponseError) else list(reply)

    def _write_keys(self, user_id: str) -> tuple[str, ...]:
        keys = self.keys
        return keys.history(user_id), keys.version(user_id), keys.stream(user_id)


def _event_arguments(event: Interaction) -> tuple[int, bytes, str]:
    identity = event_identity(event.external_id, event.timestamp_ms, event.event_id)
    data: dict[str, Any] = {
        "user": event.user_id,
        "item": event.external_id,
        "ms": event.timestamp_ms,
        "type": event.type,
        "event": identity.hex(),
    }
    if event.recommendation_id is not None:
        data["recommendation"] = event.recommendation_id
    if event.value is not None:
        data["value"] = event.value
    return event.timestamp_ms, identity + event.external_id.encode(), _json(data)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _external_id(member: bytes) -> str | None:
    """The item of a member; None where this is no member of ours."""
    try:
        return member[IDENTITY_BYTES:].decode() or None
    except UnicodeDecodeError:
        return None

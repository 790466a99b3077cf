"""What was sent and acknowledged, and whether Redis still has it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import redis

from models.events import IDENTITY_BYTES, event_identity
from service.store.keys import Keys

_FIRST_SECOND = 1_600_000_000
_KEYS = Keys()


Name = tuple[str, str]
"""The user, and the identity by which history and stream know the event."""


@dataclass(slots=True)
class Found:
    """Acknowledged events that are nowhere or twice in one of the places; what was never sent."""

    acknowledged: int
    missing: set[Name] = field(default_factory=set)
    twice: set[Name] = field(default_factory=set)
    strange: set[Name] = field(default_factory=set)

    def __str__(self) -> str:
        return (
            f"{self.acknowledged} events acknowledged, each looked for in history and stream: "
            f"{len(self.missing)} missing, {len(self.twice)} twice, {len(self.strange)} strange"
        )


class Ledger:
    """Makes events of a few users and remembers which of them were acknowledged, and when."""

    def __init__(self, users: int) -> None:
        self._users = users
        self._made = 0
        self._sent: set[Name] = set()
        self.acknowledged: dict[Name, float] = {}

    def event(self) -> dict[str, Any]:
        """Return a new event, as the service takes it."""
        number = self._made
        self._made += 1
        event = {
            "user_id": f"u{number % self._users}",
            "item_id": f"item-{1 + number * 7 % 40}",
            "event_id": f"event-{number}",
            "timestamp": _FIRST_SECOND + number,
        }
        self._sent.add(_name(event))
        return event

    def acknowledge(self, events: list[dict[str, Any]], now: float) -> None:
        """Note the moment at which these were acknowledged."""
        for event in events:
            self.acknowledged[_name(event)] = now

    def look_for_all(self, client: redis.Redis) -> Found:
        """Look for every event in its user's history and in the stream."""
        found = Found(acknowledged=len(self.acknowledged))
        for held in (self._histories(client), _streamed(client)):
            found.missing |= self.acknowledged.keys() - held.keys()
            found.twice |= {name for name, times in held.items() if times > 1}
            found.strange |= held.keys() - self._sent
        return found

    def _histories(self, client: redis.Redis) -> Counter[Name]:
        held: Counter[Name] = Counter()
        for number in range(self._users):
            user = f"u{number}"
            members: Any = client.zrange(_KEYS.history(user), 0, -1)
            held.update((user, member[:IDENTITY_BYTES].hex()) for member in members)
        return held


def _streamed(client: redis.Redis) -> Counter[Name]:
    held: Counter[Name] = Counter()
    for key in _KEYS.streams():
        entries: Any = client.xrange(key)
        for _, fields in entries:
            data = json.loads(fields[b"data"])
            held[data["user"], data["event"]] += 1
    return held


def _name(event: dict[str, Any]) -> Name:
    moment = 1000 * event["timestamp"]
    return event["user_id"], event_identity(event["item_id"], moment, event["event_id"]).hex()

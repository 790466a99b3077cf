"""What the entries of an event stream say, checked: the trainer trusts no one who writes there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from models.events import event_identity

MAX_ID_BYTES = 4096
REPLACED = "history"
_LATEST_MS = 2**43


class StreamId(NamedTuple):
    """An entry's place in its stream: milliseconds of the server's clock, and a counter."""

    ms: int
    seq: int

    @classmethod
    def parse(cls, text: bytes | str) -> StreamId:
        """Return the id in `1700000000000-3`."""
        ms, _, seq = (text.decode() if isinstance(text, bytes) else text).partition("-")
        return cls(int(ms), int(seq or 0))

    def __str__(self) -> str:
        return f"{self.ms}-{self.seq}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One interaction. `identity` is hexadecimal: the same event never counts twice for a user."""

    at: StreamId
    user_id: str
    item_id: str
    timestamp_ms: int
    type: str
    identity: str
    recommendation_id: str | None = None
    value: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget:
    """All of the user's interactions before `at` are to be forgotten."""

    at: StreamId
    user_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """All of the user's interactions before `at` now belong to `target`."""

    at: StreamId
    user_id: str
    target: str


Row = Event | Forget | Merge


def parse_entry(at: StreamId, fields: Mapping[bytes, bytes]) -> list[Row] | None:
    """Return what the entry says, None when it is not one of ours.

    A replaced history is a Forget followed by its entries as events of type `history`.
    """
    try:
        data = json.loads(fields[b"data"])
        read = _READERS[fields[b"op"]]
        return read(at, data) if isinstance(data, dict) else None
    except (KeyError, ValueError, TypeError, OverflowError, RecursionError):
        return None


def _event(at: StreamId, data: dict[str, Any]) -> list[Row]:
    value = data.get("value")
    recommendation = data.get("recommendation")
    return [
        Event(
            at=at,
            user_id=_text(data["user"]),
            item_id=_text(data["item"]),
            timestamp_ms=_moment(data["ms"]),
            type=_text(data["type"]),
            identity=_text(data["event"]),
            recommendation_id=None if recommendation is None else _text(recommendation),
            value=None if value is None else float(value),
        )
    ]


def _replace(at: StreamId, data: dict[str, Any]) -> list[Row]:
    user = _text(data["user"])
    rows: list[Row] = [Forget(at=at, user_id=user)]
    for item, ms in data["entries"]:
        item, ms = _text(item), _moment(ms)
        identity = event_identity(item, ms, None).hex()
        rows.append(
            Event(
                at=at, user_id=user, item_id=item, timestamp_ms=ms, type=REPLACED, identity=identity
            )
        )
    return rows


def _merge(at: StreamId, data: dict[str, Any]) -> list[Row]:
    return [Merge(at=at, user_id=_text(data["source"]), target=_text(data["user"]))]


def _delete(at: StreamId, data: dict[str, Any]) -> list[Row]:
    return [Forget(at=at, user_id=_text(data["user"]))]


_READERS = {b"event": _event, b"replace": _replace, b"merge": _merge, b"delete": _delete}


def _text(value: Any) -> str:
    # A lone surrogate, which JSON can spell, raises UnicodeEncodeError, a ValueError.
    if not isinstance(value, str) or not 1 <= len(value.encode()) <= MAX_ID_BYTES:
        raise ValueError("no id")
    return value


def _moment(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _LATEST_MS:
        raise ValueError("no milliseconds")
    return value

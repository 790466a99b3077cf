"""What is remembered of a user: read, replace, forget, merge."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response

from service.http.answers import HistoryAnswer, HistoryItemAnswer, LengthAnswer
from service.http.body import read_body, reply
from service.http.context import exchange, services
from service.http.parameters import Limit, UserId
from service.http.problems import FieldError, invalid
from service.http.routes_events import FUTURE_MS
from service.http.schemas import HistoryBody, MergeRequest
from service.http.timestamps import timestamp_ms
from service.store.contract import HistoryEntry

MOST_ENTRIES = 1000


async def read_history(request: Request, user_id: UserId, limit: Limit = 100) -> Response:
    """Return the user's newest items, oldest first; empty for a user nobody knows."""
    _note_user(request, user_id)
    entries = await services(request).store.entries(user_id, limit)
    items = [
        HistoryItemAnswer(item_id=entry.external_id, timestamp=rfc3339(entry.timestamp_ms))
        for entry in entries
    ]
    return reply(request, HistoryAnswer(items=items, length=len(items)))


async def replace_history(request: Request, user_id: UserId) -> Response:
    """Replace everything remembered of the user; return how much is kept."""
    _note_user(request, user_id)
    body = await read_body(request, HistoryBody)
    store = services(request).store
    await store.replace(user_id, _entries(body, services(request).event_clock()))
    return reply(request, LengthAnswer(length=len(await store.entries(user_id, MOST_ENTRIES))))


async def delete_history(request: Request, user_id: UserId) -> Response:
    """Forget the user; the answer is the same when there was nothing to forget."""
    _note_user(request, user_id)
    await services(request).store.delete(user_id)
    return Response(status_code=204)


async def merge_users(request: Request, user_id: UserId) -> Response:
    """Move the source's history into this user's, by time; the source is forgotten."""
    _note_user(request, user_id)
    body = await read_body(request, MergeRequest)
    if body.source_user_id == user_id:
        raise invalid(
            [FieldError("/source_user_id", "conflict", "a user cannot be its own source")]
        )
    length = await services(request).store.merge(user_id, body.source_user_id)
    return reply(request, LengthAnswer(length=length))


def _entries(body: HistoryBody, now_ms: int) -> list[HistoryEntry]:
    entries, errors = [], []
    for place, item in enumerate(body.items):
        try:
            # Without times, the order is kept by a millisecond each.
            moment = (
                now_ms - len(body.items) + 1 + place
                if item.timestamp is None
                else timestamp_ms(item.timestamp)
            )
            if moment > now_ms + FUTURE_MS:
                raise ValueError("more than 5 minutes in the future; numbers are Unix seconds")
        except ValueError as error:
            pointer = f"/items/{place}/timestamp"
            errors.append(FieldError(pointer, "invalid_timestamp", str(error)))
            continue
        entries.append(HistoryEntry(external_id=item.item_id, timestamp_ms=moment))
    if errors:
        raise invalid(errors)
    return sorted(entries, key=lambda entry: entry.timestamp_ms)


def _note_user(request: Request, user_id: str) -> None:
    exchange(request).fields["user"] = services(request).hash_user(user_id)


def rfc3339(milliseconds: int) -> str:
    """Return Unix milliseconds as text."""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

"""POST /v1/events: what users did, checked one by one, acknowledged when durable."""

from __future__ import annotations

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from service.http.answers import EventError, EventsAnswer
from service.http.body import read_body, reply
from service.http.context import exchange, services
from service.http.problems import field_errors
from service.http.schemas import Event, EventsRequest
from service.http.timestamps import timestamp_ms
from service.ingest import Impression
from service.store.contract import Interaction

FUTURE_MS = 5 * 60 * 1000


async def events(request: Request) -> Response:
    """Make events durable; the next recommendation of each user reflects them."""
    body = await read_body(request, EventsRequest)
    ingester = services(request).ingester
    now_ms = services(request).event_clock()
    interactions: list[Interaction] = []
    impressions: list[Impression] = []
    errors: list[EventError] = []
    refused_types: list[str] = []
    for index, raw in enumerate(body.events):
        one = check(raw, index=index, now_ms=now_ms)
        if isinstance(one, EventError):
            errors.append(one)
            kind = raw.get("type", "view") if isinstance(raw, dict) else "other"
            refused_types.append(kind if isinstance(kind, str) else "other")
        elif isinstance(one, Impression):
            impressions.append(one)
        else:
            interactions.append(one)
    receipt = await ingester.ingest(interactions, impressions)
    for kind in refused_types:
        ingester.rejected(kind)
    exchange(request).fields |= {
        "accepted": receipt.accepted,
        "duplicates": receipt.duplicates,
        "rejected": len(errors),
    }
    return reply(
        request,
        EventsAnswer(
            accepted=receipt.accepted,
            duplicates=receipt.duplicates,
            rejected=len(errors),
            errors=errors,
        ),
    )


def check(raw: object, *, index: int, now_ms: int) -> Interaction | Impression | EventError:
    """Return the event in our own values, or what is wrong with it first."""
    try:
        event = Event.model_validate(raw)
    except ValidationError as error:
        first = field_errors(error.errors(include_url=False)[:1])[0]
        return EventError(index=index, pointer=first.pointer, code=first.code, detail=first.detail)
    try:
        moment = now_ms if event.timestamp is None else timestamp_ms(event.timestamp)
        if moment > now_ms + FUTURE_MS:
            raise ValueError("more than 5 minutes in the future; numbers are Unix seconds")
    except ValueError as error:
        return EventError(
            index=index, pointer="/timestamp", code="invalid_timestamp", detail=str(error)
        )
    if event.items is not None:
        return Impression(
            user_id=event.user_id,
            external_ids=tuple(event.items),
            recommendation_id=event.recommendation_id,
        )
    assert event.item_id is not None, "the schema asks for item_id or items"
    return Interaction(
        user_id=event.user_id,
        external_id=event.item_id,
        timestamp_ms=moment,
        event_id=event.event_id,
        type=event.type,
        recommendation_id=event.recommendation_id,
        value=event.value,
    )

"""What the operator shows nobody: read it, change it, replace it. Every change is audited."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from service.blocklist.contract import BlocklistFullError, Change
from service.http.answers import BlockedItemAnswer, BlocklistAnswer, BlocklistChangeAnswer
from service.http.blocklist_bodies import BlocklistBody, BlocklistChangeRequest
from service.http.body import read_body, reply
from service.http.context import exchange, services
from service.http.problems import FieldError, ProblemError, invalid
from service.http.routes_users import rfc3339
from service.logs import log_audit


async def read_blocklist(request: Request) -> Response:
    """Tell every blocked item, by id, and since when it is blocked."""
    blocklist = services(request).blocklist
    listing = await blocklist.listing()
    items = [
        BlockedItemAnswer(item_id=item, since=rfc3339(since))
        for item, since in sorted(listing.since_ms.items())
    ]
    answer = BlocklistAnswer(
        items=items, size=len(items), limit=blocklist.limit, revision=listing.revision
    )
    return reply(request, answer)


async def change_blocklist(request: Request) -> Response:
    """Block some items and unblock others, in one step; the same again changes nothing."""
    body = await read_body(request, BlocklistChangeRequest)
    try:
        done = await services(request).blocklist.change(body.add, body.remove)
    except BlocklistFullError as error:
        raise _full(error, "/add") from None
    return _done(request, done, add=body.add, remove=body.remove)


async def replace_blocklist(request: Request) -> Response:
    """Block just these items and no others."""
    body = await read_body(request, BlocklistBody)
    try:
        done = await services(request).blocklist.replace(body.items)
    except BlocklistFullError as error:
        raise _full(error, "/items") from None
    return _done(request, done, replace=body.items)


def _done(request: Request, done: Change, **asked: Sequence[str]) -> Response:
    record = exchange(request)
    counts = {"added": done.added, "removed": done.removed, "size": done.size}
    log_audit(
        "blocklist",
        {
            "request_id": record.request_id,
            "key": record.fields.get("key"),
            **counts,
            "revision": done.revision,
            **asked,
        },
    )
    record.fields |= counts
    return reply(
        request,
        BlocklistChangeAnswer(
            added=done.added, removed=done.removed, size=done.size, revision=done.revision
        ),
    )


def _full(error: BlocklistFullError, pointer: str) -> ProblemError:
    detail = (
        f"the list would hold {error.size} items and may hold {error.limit}; remove some, or raise "
        "CANET_BLOCKLIST_MAX"
    )
    return invalid([FieldError(pointer, "too_long", detail)])

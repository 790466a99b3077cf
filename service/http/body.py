"""From bytes to a checked body in one pass, and from an answer to bytes in one pass."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import to_json
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive

from service.http.answers import Answer
from service.http.context import exchange
from service.http.problems import FieldError, ProblemError, field_errors, invalid
from service.tracing.contract import Mark

B = TypeVar("B", bound=BaseModel)


async def read_body(request: Request, model: type[B], *, optional: bool = False) -> B:
    """Return the request's JSON body as `model`; with `optional` an empty body is `{}`.

    Raises ProblemError: 400 for what is not JSON, 415 for what is not sent as JSON, 413 from the
    body limit, 422 with one pointer per wrong field.
    """
    body = await _whole(request.receive)
    if not body.strip():
        if optional:
            return model()
        raise _unreadable("empty_body", "The body is empty; send a JSON object.")
    _check_media_type(request)
    return parse(body, model)


def parse(body: bytes, model: type[B]) -> B:
    """Return the JSON `body` as `model`; raises as `read_body` does."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        details = error.errors(include_url=False)
    if details[0]["type"] != "json_invalid":
        raise invalid(field_errors(details))
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _unreadable(
            "invalid_utf8", f"Byte {error.start} of the body is not UTF-8; send UTF-8."
        ) from None
    reason = details[0].get("ctx", {}).get("error", "invalid JSON")
    raise _unreadable("malformed_json", f"The body is not valid JSON: {reason}.")


def reply(request: Request, answer: Answer | Mapping[str, Any], *, status: int = 200) -> Response:
    """Return the answer as JSON; absent fields are left out, the time it takes is noted.

    A mapping is sent as it is: the caller answers for its having the documented form.
    """
    started = time.perf_counter()
    if isinstance(answer, Answer):
        body = answer.__pydantic_serializer__.to_json(answer, exclude_unset=True)
    else:
        body = to_json(answer, inf_nan_mode="null")
    record = exchange(request)
    seconds = record.stage_seconds["serialise"] = time.perf_counter() - started
    if record.span is not None and record.span.marks is not None:
        record.span.marks.append(Mark("serialise", started, seconds))
    return Response(body, status_code=status, media_type="application/json")


async def _whole(receive: Receive) -> bytes:
    chunks: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _check_media_type(request: Request) -> None:
    for name, value in request.scope["headers"]:
        if name == b"content-type":
            if value == b"application/json":
                return
            break
    sent = request.headers.get("content-type", "")
    kind, _, parameters = sent.partition(";")
    charset = parameters.lower().replace(" ", "").replace('"', "")
    if kind.strip().lower() != "application/json" or charset not in {"", "charset=utf-8"}:
        raise ProblemError(
            "unsupported_media_type", "Send Content-Type: application/json, encoded as UTF-8."
        )


def _unreadable(code: str, detail: str) -> ProblemError:
    return ProblemError(code, detail, [FieldError("", code, detail)])

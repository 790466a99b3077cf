"""The one error shape (RFC 9457 problem+json) and the one table from error to status."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import ErrorDetails

from service.engine.batcher import EngineFailedError, NoEngineError, QueueFullError
from service.engine.contract import UnknownFieldError, UnknownItemError, UnknownSubmodelError
from service.lifecycle.contract import ReloadBusyError, ReloadRefusedError
from service.store.contract import StoreUnavailableError

MEDIA_TYPE = "application/problem+json"
MOST_ERRORS = 50
_SHOWN = 64


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table: what a code means."""

    status: int
    title: str
    retry_after: int | None = None
    """Seconds after which another attempt makes sense."""


KINDS: Mapping[str, Kind] = {
    "malformed_json": Kind(400, "The body is not JSON"),
    "invalid_utf8": Kind(400, "The request is not UTF-8"),
    "empty_body": Kind(400, "The body is empty"),
    "bad_request": Kind(400, "The request cannot be read"),
    "unauthorized": Kind(401, "No valid API key"),
    "forbidden": Kind(403, "The API key lacks the scope"),
    "not_found": Kind(404, "There is no such route"),
    "item_not_found": Kind(404, "There is no such item"),
    "method_not_allowed": Kind(405, "The route does not know this method"),
    "request_timeout": Kind(408, "The body took too long to arrive"),
    "reload_busy": Kind(409, "Another reload is running", 5),
    "body_too_large": Kind(413, "The body is too large"),
    "unsupported_media_type": Kind(415, "The body is not sent as JSON"),
    "validation_failed": Kind(422, "The request is not valid"),
    "reload_refused": Kind(422, "The model was refused"),
    "overloaded": Kind(429, "Too many queries are waiting", 1),
    "rate_limited": Kind(429, "The key's rate is used up"),
    "internal_error": Kind(500, "The service failed on this request"),
    "not_ready": Kind(503, "No model is loaded", 2),
    "store_unavailable": Kind(503, "The history store is away", 1),
}

_DETAILS: Mapping[type[Exception], tuple[str, str]] = {
    QueueFullError: ("overloaded", "The queue is full; try again after the time in Retry-After."),
    NoEngineError: ("not_ready", "No model is loaded yet, or the service is stopping; try again."),
    EngineFailedError: ("internal_error", "The model failed on this request; the log says why."),
    StoreUnavailableError: (
        "store_unavailable",
        "The store did not answer in time and nothing was acknowledged; send the same again.",
    ),
    UnknownItemError: ("item_not_found", "The catalog of the loaded model has no such item."),
    ReloadBusyError: ("reload_busy", "Another reload or rollback is running; try again later."),
}


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field.

    `pointer` is an RFC 6901 JSON Pointer into the body; `/path/...` and `/query/...` for
    parameters.
    """

    pointer: str
    code: str
    detail: str

    def to_json(self) -> dict[str, str]:
        """Return the wire form."""
        return {"pointer": self.pointer, "code": self.code, "detail": self.detail}


@dataclass(slots=True, eq=False)
class ProblemError(Exception):
    """A request that ends in a problem; `code` is a key of KINDS."""

    code: str
    detail: str
    errors: Sequence[FieldError] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        """The table's row for this problem."""
        return KINDS[self.code]

    def to_json(self, *, request_id: str, instance: str | None) -> dict[str, Any]:
        """Return the problem object; nothing of it comes from inside the service."""
        return {
            "type": f"/problems/{self.code}",
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
            "instance": instance,
            "request_id": request_id,
            "code": self.code,
            "errors": [error.to_json() for error in self.errors[:MOST_ERRORS]],
        }

    def render(self, *, request_id: str, instance: str | None) -> bytes:
        """Return the problem as JSON bytes."""
        return json.dumps(self.to_json(request_id=request_id, instance=instance)).encode()

    def all_headers(self) -> dict[str, str]:
        """Return the headers that this problem asks for, Retry-After among them."""
        headers = dict(self.headers)
        if self.kind.retry_after is not None:
            headers["Retry-After"] = str(self.kind.retry_after)
        return headers


def problem_of(error: Exception) -> ProblemError:
    """Return the problem that answers `error`; unknown errors become `internal_error`."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, UnknownSubmodelError):
        return invalid([FieldError("/compute/submodel", "unknown_submodel", NOT_SERVED)])
    if isinstance(error, UnknownFieldError):
        return invalid([FieldError("/filter", "unknown_field", NOT_FILTERABLE)])
    if isinstance(error, ReloadRefusedError):
        return ProblemError("reload_refused", error.reason)
    for kind, (code, detail) in _DETAILS.items():
        if isinstance(error, kind):
            return ProblemError(code, detail)
    return ProblemError("internal_error", "The log holds the reason under this request id.")


NOT_SERVED = "the loaded model does not serve this submodel; GET /v1/model lists them"
NOT_FILTERABLE = "the loaded model's items have no such attribute; GET /v1/model lists them"


def no_such_route() -> ProblemError:
    """Return the 404 of a path that leads nowhere, or nowhere for this caller."""
    return ProblemError("not_found", "GET /openapi.json lists the routes.")


def invalid(errors: Sequence[FieldError]) -> ProblemError:
    """Return the 422 that names these fields."""
    first = errors[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return ProblemError(
        "validation_failed", f"{first.pointer or 'body'}: {first.detail}{more}", errors
    )


def pointer(parts: Iterable[str | int]) -> str:
    """Return the RFC 6901 JSON Pointer of a path into a JSON document."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def field_errors(details: Sequence[ErrorDetails], prefix: str = "") -> list[FieldError]:
    """Return one error per finding of pydantic, at most MOST_ERRORS.

    Short plain inputs are quoted back to their sender; anything longer or larger is not.
    """
    found = []
    for entry in details[:MOST_ERRORS]:
        parts: list[str | int] = [_shortened(part) for part in entry["loc"]]
        context = entry.get("ctx", {})
        if "field" in context:
            parts.append(context["field"])
        message = entry["msg"].removeprefix("Value error, ")
        if entry["type"] == "string_pattern_mismatch":
            message = "must not hold control characters, or is not of the documented form"
        found.append(
            FieldError(prefix + pointer(parts), entry["type"], message + _quoted(entry["input"]))
        )
    return found


def _shortened(part: str | int) -> str | int:
    return part if isinstance(part, int) or len(part) <= _SHOWN else part[:_SHOWN] + "..."


def _quoted(value: Any) -> str:
    if value is None or isinstance(value, bool | int | float | str):
        text = ascii(value)
        if len(text) <= _SHOWN:
            return f"; got {text}"
    return ""

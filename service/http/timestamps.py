"""Times in bodies: RFC 3339 with a zone, or Unix seconds."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Annotated, Any

from pydantic import (
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

LATEST_TIMESTAMP = 253402300799  # the last second of year 9999


def _one_finding(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    # Of a union pydantic tells one finding per branch, at places that are not in the body.
    try:
        return check(value)
    except ValidationError:
        raise PydanticCustomError(
            "timestamp_type", "send an RFC 3339 time with a zone, or finite Unix seconds"
        ) from None


Timestamp = Annotated[
    float | str,
    Field(union_mode="left_to_right"),
    WrapValidator(_one_finding),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": LATEST_TIMESTAMP},
                {"type": "string", "format": "date-time"},
            ],
            "description": "RFC 3339 with a zone, or Unix seconds",
        }
    ),
]


def timestamp_ms(value: float | str) -> int:
    """Return Unix milliseconds; ValueError says what is wrong with the timestamp."""
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError("not an RFC 3339 time such as 2026-09-01T12:00:00Z") from None
        if moment.tzinfo is None:
            raise ValueError("the time has no zone; end it with Z or an offset")
        seconds = moment.timestamp()
    else:
        seconds = float(value)
    if not math.isfinite(seconds) or not 0 <= seconds <= LATEST_TIMESTAMP:
        raise ValueError("outside the years 1970 to 9999; numbers are seconds, not milliseconds")
    return round(seconds * 1000)

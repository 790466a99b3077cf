"""Kinds of values that several sections share, and how they are written in a variable."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

_DURATION = re.compile(r"^(\d+)(s|m|h|d)?$")
_SECONDS = {None: 1, "s": 1, "m": 60, "h": 3600, "d": 86400}

_RATE = re.compile(r"^([1-9]\d{0,8})/(s|m|h|d)$")


class Rate(BaseModel):
    """So many requests in so many seconds; as many may come at once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests: int = Field(ge=1)
    seconds: int = Field(ge=1)


class Section(BaseModel):
    """Some of the settings, frozen; together the sections are `service.settings.Settings`."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _duration(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = _DURATION.match(value.strip())
    if match is None:
        raise ValueError("give seconds, or a number followed by s, m, h or d, such as 90d")
    return int(match[1]) * _SECONDS[match[2]]


def rate(value: Any) -> Any:
    """Return the rate that a text such as `100/s` means; other values as they are."""
    if not isinstance(value, str):
        return value
    match = _RATE.match(value.strip())
    if match is None:
        raise ValueError("give a number of requests per s, m, h or d, such as 100/s or 6000/m")
    return Rate(requests=int(match[1]), seconds=_SECONDS[match[2]])


def words(value: Any) -> Any:
    """Return the comma separated words of a text; other values as they are."""
    if not isinstance(value, str):
        return value
    return tuple(word for part in value.split(",") if (word := part.strip()))


Duration = Annotated[int, BeforeValidator(_duration), Field(ge=1)]
DurationOrZero = Annotated[int, BeforeValidator(_duration), Field(ge=0)]
Words = Annotated[tuple[str, ...], BeforeValidator(words)]
Port = Annotated[int, Field(ge=0, le=65535)]

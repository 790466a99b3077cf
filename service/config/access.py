"""Who may call, and how much one call may hold."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from service.config.values import Rate, Section, Words, rate, words

SCOPES = ("read", "write", "admin")
LEAST_KEY_LENGTH = 16

_SHA256 = re.compile(r"^sha256\$([0-9a-f]{64})$")


class ApiKey(BaseModel):
    """One accepted key, known by its SHA-256 only, and what it opens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: bytes = Field(repr=False)
    scopes: frozenset[str]


def _keys(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    keys = []
    for place, entry in enumerate(words(value), start=1):
        scopes_text, colon, key = entry.partition(":")
        scopes = frozenset(scopes_text.split("+"))
        if not colon or not scopes <= set(SCOPES):
            raise ValueError(
                f"entry {place} is not of the form 'read+write:KEY'; scopes are {', '.join(SCOPES)}"
            )
        hashed = _SHA256.match(key)
        if hashed is None and len(key) < LEAST_KEY_LENGTH:
            raise ValueError(
                f"the key of entry {place} is shorter than {LEAST_KEY_LENGTH} characters"
            )
        digest = bytes.fromhex(hashed[1]) if hashed else hashlib.sha256(key.encode()).digest()
        keys.append(ApiKey(digest=digest, scopes=scopes))
    return tuple(keys)


class Access(Section):
    """Who may call, and how much one call may hold."""

    api_keys: Annotated[
        tuple[ApiKey, ...],
        BeforeValidator(_keys),
        Field(
            description="Accepted keys: `read+write:KEY,admin:KEY`, a key in clear (16 characters "
            "or more) or as `sha256$HEX`. Secret."
        ),
    ] = ()
    rate_limit: Annotated[
        Rate | None,
        BeforeValidator(rate),
        Field(
            description="Requests that one key may make (without keys, one address), such as "
            "`100/s` or `6000/m`; empty: any."
        ),
    ] = None
    rate_limit_shared: Annotated[
        bool, Field(description="Whether all replicas together allow that rate, by Redis.")
    ] = False
    max_body: Annotated[
        int, Field(ge=1024, le=64 * 1024 * 1024, description="Longest request body, bytes.")
    ] = 1024 * 1024
    client_timeout_seconds: Annotated[
        float,
        Field(
            ge=0.1,
            le=600,
            description="Time a client has to send its headers, then its body, and to take what "
            "is sent.",
        ),
    ] = 10.0
    cors_origins: Annotated[
        Words, Field(description="Origins that browsers may call from; empty: none.")
    ] = ()

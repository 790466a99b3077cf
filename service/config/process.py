"""How the process logs, names itself and ends."""

from __future__ import annotations

import secrets
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr

from service.config.values import Section


class Process(Section):
    """How the process logs, names itself and ends."""

    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"],
        BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value),
        Field(description="Least severe level that is logged."),
    ] = "INFO"
    log_format: Annotated[
        Literal["json", "text"], Field(description="`json`, or `text` for people.")
    ] = "json"
    log_salt: SecretStr = Field(
        default_factory=lambda: SecretStr(secrets.token_hex(16)),
        description="Salt of the user hashes in logs; empty: a fresh one per start. Secret.",
    )
    drain_seconds: Annotated[
        float,
        Field(ge=0, le=600, description="Time served after SIGTERM while `/readyz` is 503."),
    ] = 5.0
    grace_seconds: Annotated[
        float, Field(ge=0, le=600, description="Time that running requests get to finish.")
    ] = 20.0
    revision: Annotated[
        str, Field(max_length=64, description="Source revision, shown in `canet_build_info`.")
    ] = "unknown"

"""How the process logs, names itself and ends."""

from __future__ import annotations

import secrets
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr

from service.config.values import Section

_TRACES = "/v1/traces"


def _collector(value: Any) -> Any:
    """Return the full URL of a collector; one without a path gets the standard's."""
    if not isinstance(value, str):
        return value
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("give the URL of a collector, such as http://collector:4318")
    return value.rstrip("/") + _TRACES if parts.path in {"", "/"} else value


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
    otlp_endpoint: Annotated[
        str | None,
        BeforeValidator(_collector),
        Field(description="Collector that takes traces by OTLP over HTTP; empty: no tracing."),
    ] = None
    otlp_sample_ratio: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Share of the requests that are traced where the caller's `traceparent` "
            "does not decide.",
        ),
    ] = 0.1
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

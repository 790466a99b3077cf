"""Where histories live and how long."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from service.config.values import Duration, DurationOrZero, Section

MOST_BLOCKED = 100_000
REDIS_SCHEMES = ("redis://", "rediss://", "unix://")


def _redis_url(url: SecretStr | None) -> SecretStr | None:
    if url is not None and not url.get_secret_value().startswith(REDIS_SCHEMES):
        raise ValueError(f"the URL must start with one of {', '.join(REDIS_SCHEMES)}")
    return url


class Store(Section):
    """Where histories live and how long."""

    redis_url: Annotated[
        SecretStr | None,
        AfterValidator(_redis_url),
        Field(description="History store; empty: an embedded server is started. Secret."),
    ] = None
    redis_connect_timeout_ms: Annotated[
        float, Field(gt=0, le=60_000, description="Time to open a connection.")
    ] = 200.0
    redis_op_timeout_ms: Annotated[
        float, Field(gt=0, le=60_000, description="Time for one Redis operation.")
    ] = 25.0
    redis_write_timeout_ms: Annotated[
        float,
        Field(gt=0, le=60_000, description="Time for one write; then it is not acknowledged."),
    ] = 250.0
    redis_max_connections: Annotated[
        int, Field(ge=1, le=10_000, description="Most connections to Redis.")
    ] = 64
    redis_wait_replicas: Annotated[
        int,
        Field(ge=0, le=100, description="Replicas of Redis that must hold an event first."),
    ] = 0
    embedded_dir: Annotated[
        Path | None,
        Field(description="Where the embedded server keeps its data; empty: the user's cache."),
    ] = None
    history_max: Annotated[
        int, Field(ge=1, le=1000, description="Items remembered for a user.")
    ] = 100
    history_ttl: Annotated[
        Duration, Field(description="Idle time after which a user is forgotten.")
    ] = 90 * 86400
    impressions_ttl: Annotated[
        DurationOrZero,
        Field(
            le=30 * 86400,
            description="How long it is known who was shown what, to book clicks on; 0: never.",
        ),
    ] = 86400
    blocklist_max: Annotated[
        int, Field(ge=1, le=MOST_BLOCKED, description="Most items that the operator may block.")
    ] = 10_000
    ready_requires_redis: Annotated[
        bool, Field(description="Whether `/readyz` is 503 while Redis is away.")
    ] = False

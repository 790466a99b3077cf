"""How queries become batches, and how long they may take."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from service.config.values import DurationOrZero, Section


class Compute(Section):
    """How queries become batches, and how long they may take."""

    torch_threads: Annotated[
        int,
        Field(
            ge=1,
            le=256,
            description="Threads for the little that torch multiplies; all else runs on one.",
        ),
    ] = 1
    max_batch: Annotated[int, Field(ge=1, le=1024, description="Most queries in one batch.")] = 16
    batch_wait_ms: Annotated[
        float,
        Field(
            ge=0,
            le=1000,
            description="Longest that a query waits for others on the way, to share their batch.",
        ),
    ] = 2.0
    queue_limit: Annotated[
        int, Field(ge=1, le=100_000, description="Waiting queries beyond which 429 is answered.")
    ] = 256
    deadline_ms: Annotated[
        float,
        Field(ge=5, le=60_000, description="Time for one answer; then popular items, flagged."),
    ] = 200.0
    objective_ms: Annotated[
        float,
        Field(ge=5, le=60_000, description="Within which answers are to come, also in overload."),
    ] = 100.0
    result_ttl: Annotated[
        DurationOrZero,
        Field(le=86400, description="How long an answer is kept for the same question; 0: never."),
    ] = 60
    result_cache_mb: Annotated[
        int, Field(ge=1, le=65_536, description="Memory for kept answers, MiB.")
    ] = 32
    overload_policy: Annotated[
        Literal["shrink_then_shed", "shed", "off"],
        Field(
            description="In overload, `shrink_then_shed`: smaller networks, then 429; `shed`: 429 "
            "alone; `off`: 429 by `CANET_QUEUE_LIMIT` alone."
        ),
    ] = "shrink_then_shed"

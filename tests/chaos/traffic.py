"""Callers that ask again and again, and what they saw."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx


@dataclass(slots=True)
class Seen:
    """What came back; `failures` are requests without any answer."""

    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)
    refusals: list[httpx.Response] = field(default_factory=list)


async def crowd(
    url: str,
    body: Callable[[], dict[str, Any]],
    *,
    callers: int,
    enough: Callable[[Seen], bool],
) -> Seen:
    """Ask for recommendations until `enough`; whoever is refused comes back after Retry-After."""
    seen = Seen()

    async def caller(client: httpx.AsyncClient) -> None:
        while not enough(seen):
            try:
                response = await client.post("/recommend", json=body())
            except httpx.HTTPError as error:
                seen.failures.append(repr(error))
                return
            seen.statuses[response.status_code] += 1
            if response.status_code == 200:
                seen.answers.append(response.json())
            else:
                seen.refusals.append(response)
                await asyncio.sleep(float(response.headers.get("retry-after", 0)))

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
        await asyncio.gather(*(caller(client) for _ in range(callers)))
    return seen

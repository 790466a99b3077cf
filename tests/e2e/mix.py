"""Send many requests as clients do: some alone, some in batches, several at a time."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from tests.e2e.live import Live


async def send_mix(
    service: Live,
    requests: list[dict[str, Any]],
    generator: random.Random,
    *,
    batch: int,
    at_once: int,
) -> list[dict[str, Any]]:
    """Send the requests, one call in five as a batch of `batch`; return every answer in order."""
    left = list(requests)
    calls: list[list[dict[str, Any]]] = []
    while left:
        size = generator.choice((1, 1, 1, 1, batch))
        calls.append(left[:size])
        left = left[size:]
    gate = asyncio.Semaphore(at_once)

    async def send(bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
        async with gate:
            if len(bodies) == 1:
                return [await service.recommend(**bodies[0])]
            response = await service.client.post("/v1/recommend/batch", json={"requests": bodies})
            return [entry["result"] for entry in response.json()["results"]]

    return [answer for answers in await asyncio.gather(*map(send, calls)) for answer in answers]

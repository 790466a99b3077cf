"""The whole service in this process: real checkpoint, torch engine, store and manager."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import torch
from prometheus_client import CollectorRegistry

from service.app import create_app
from service.engine.torch_engine import TorchEngine, load_engine
from service.settings import Settings

KEY = "e2e-key-of-all-scopes"
WAIT_SECONDS = 120.0


class Live:
    """One running service: a client that may do everything, and its metrics."""

    def __init__(self, client: httpx.AsyncClient, registry: CollectorRegistry) -> None:
        self.client = client
        self._registry = registry

    async def recommend(self, **body: Any) -> dict[str, Any]:
        """Return the answer; it must be a 200."""
        return await self._answer(await self.client.post("/v1/recommend", json=body))

    async def tell(self, user: str, *items: str) -> dict[str, Any]:
        """Write one event per item, a second apart, the newest last."""
        events = [
            {"user_id": user, "item_id": item, "timestamp": 1_700_000_000 + second}
            for second, item in enumerate(items)
        ]
        return await self._answer(await self.client.post("/v1/events", json={"events": events}))

    async def _answer(self, response: httpx.Response) -> dict[str, Any]:
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    def value(self, name: str, **labels: str) -> float | None:
        """Return the first sample of `canet_<name>` that has these labels among its own."""
        for family in self._registry.collect():
            for sample in family.samples:
                if sample.name == f"canet_{name}" and labels.items() <= sample.labels.items():
                    return sample.value
        return None

    def metric(self, name: str, **labels: str) -> float:
        """Return the sample of `canet_<name>`, which must exist."""
        found = self._registry.get_sample_value(f"canet_{name}", labels)
        assert found is not None, f"no sample {name} {labels}"
        return found


@asynccontextmanager
async def live(root: Path, redis_url: str, **changes: Any) -> AsyncIterator[Live]:
    """Yield the started and ready service over the model root and the store.

    The limits are wide: tests ask what is answered, not how fast a busy machine is.
    """
    torch.set_num_threads(1)
    values: dict[str, Any] = {
        "model_root": root,
        "deadline_ms": 20_000,
        "objective_ms": 60_000,
        "overload_policy": "off",
        "result_ttl": 0,  # every answer is computed, unless a test asks otherwise
        "redis_op_timeout_ms": 5000,
        "redis_write_timeout_ms": 5000,
        "redis_connect_timeout_ms": 5000,
        "api_keys": f"read+write+admin:{KEY}",
        "reload_poll_seconds": 0.05,
        **changes,
    }
    registry = CollectorRegistry()
    settings = Settings.model_validate(values).with_redis(redis_url)
    app = create_app(settings, registry=registry)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        headers = {"X-API-Key": KEY}
        async with httpx.AsyncClient(
            transport=transport, base_url="http://test", headers=headers
        ) as client:
            async with asyncio.timeout(WAIT_SECONDS):
                while True:
                    if (await client.get("/readyz")).status_code == 200:
                        break
                    await asyncio.sleep(0.02)
            yield Live(client, registry)


async def until(done: Callable[[], bool]) -> None:
    """Return once `done` says so."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            if done():
                return
            await asyncio.sleep(0.02)


def engine_of(root: Path, version: str) -> TorchEngine:
    """Return an engine of its own for one published version."""
    return load_engine(root / version, price=None, allowed=None)


def ids(answer: Mapping[str, Any]) -> list[str]:
    """Return the answer's item ids by rank."""
    rows: Sequence[Mapping[str, Any]] = answer["items"]
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    return [str(row["item_id"]) for row in rows]

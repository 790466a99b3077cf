"""CURRENT is gone: what serves goes on, what starts finds a way or waits, and says why."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from models.checkpoint.store import CURRENT, HISTORY, set_current
from service.app import create_app
from service.settings import Settings
from tests.e2e.live import WAIT_SECONDS, live
from tests.models.published import publish_random

pytestmark = pytest.mark.long

ASKED = {"history": ["item-3", "item-1"]}


async def told(client: httpx.AsyncClient, words: str) -> dict[str, Any]:
    """Return what readiness says once it holds the words."""
    async with asyncio.timeout(WAIT_SECONDS):
        ready = await client.get("/readyz")
        while words not in ready.text:
            await asyncio.sleep(0.02)
            ready = await client.get("/readyz")
    found: dict[str, Any] = ready.json() | {"code": ready.status_code}
    return found


async def test_a_service_whose_current_goes_serves_on(tmp_path: Path, redis_url: str) -> None:
    publish_random(tmp_path, seed=0)
    second = publish_random(tmp_path, seed=1)
    async with live(tmp_path, redis_url) as service:
        (tmp_path / CURRENT).unlink()
        assert (await told(service.client, "no CURRENT"))["code"] == 200
        assert (await service.recommend(**ASKED))["model_version"] == second
        response = await service.client.post("/v1/admin/model/reload")
        assert (response.status_code, response.json()["code"]) == (422, "reload_refused")
        assert (await service.recommend(**ASKED))["model_version"] == second
        set_current(tmp_path, second)
        async with asyncio.timeout(WAIT_SECONDS):
            ready = await service.client.get("/readyz")
            while ready.json().get("detail"):
                await asyncio.sleep(0.02)
                ready = await service.client.get("/readyz")


async def test_a_service_that_starts_without_current_takes_what_served_before(
    tmp_path: Path, redis_url: str
) -> None:
    first = publish_random(tmp_path, seed=0)
    second = publish_random(tmp_path, seed=1)
    (tmp_path / CURRENT).unlink()
    async with live(tmp_path, redis_url) as service:
        assert (await service.recommend(**ASKED))["model_version"] == first
        assert "no CURRENT" in (await told(service.client, first))["detail"]["model"]
        assert service.metric("model_fallback") == 1
        set_current(tmp_path, second)
        async with asyncio.timeout(WAIT_SECONDS):
            answer = await service.recommend(**ASKED)
            while answer["model_version"] != second:
                await asyncio.sleep(0.02)
                answer = await service.recommend(**ASKED)
        assert service.metric("model_fallback") == 0


async def test_with_nothing_that_ever_served_it_waits_and_says_so(
    tmp_path: Path, redis_url: str
) -> None:
    version = publish_random(tmp_path)
    (tmp_path / CURRENT).unlink()
    (tmp_path / HISTORY).unlink(missing_ok=True)
    settings = Settings.model_validate({"model_root": tmp_path, "reload_poll_seconds": 0.05})
    app = create_app(settings.with_redis(redis_url), registry=CollectorRegistry())
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        ready = await told(client, "no CURRENT")
        assert (ready["code"], ready["status"]) == (503, "unready")
        assert (await client.post("/recommend", json=ASKED)).status_code == 503
        assert (await client.get("/healthz")).status_code == 200
        set_current(tmp_path, version)
        assert (await told(client, '"ready"'))["code"] == 200

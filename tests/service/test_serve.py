"""The real process: uvicorn, the embedded store, bytes on a socket, signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from service.app import create_app
from service.settings import Settings
from tests.service.fakes import FakeEngine, FakeManager
from tests.service.process import ROOT, serving, until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    with (
        serving(tmp_path, drain_seconds="0.5", max_body="65536") as served,
        httpx.Client(base_url=served.url, timeout=10) as client,
    ):
        yield served.process, client


def test_it_serves_from_the_embedded_store_and_ends_gracefully(
    server: tuple[subprocess.Popen[bytes], httpx.Client],
) -> None:
    process, client = server
    until(lambda: client.get("/readyz").status_code == 200)
    events = {"events": [{"user_id": "a/b", "item_id": "i7"}]}
    assert client.post("/v1/events", json=events).json()["accepted"] == 1
    told = client.post("/recommend", json={"user_id": "a/b", "k": 1}).json()
    assert told["items"][0]["item_id"] == "i8"
    assert client.get("/v1/users/a%2Fb/history").json()["length"] == 1
    assert client.get("/v1/users/a%FFb/history").json()["code"] == "invalid_utf8"
    assert client.get("/readyz").json()["checks"]["redis"] == "ok"

    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 1024

    headers = {"content-type": "application/json"}
    refused = client.post("/recommend", content=endless(), headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")
    refused = client.post("/recommend", content=b" " * 70_000, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")

    process.send_signal(signal.SIGTERM)
    until(lambda: client.get("/readyz").status_code == 503)
    assert client.get("/readyz").json()["checks"]["lifetime"] == "draining"
    assert client.get("/healthz").status_code == 200
    assert client.post("/recommend", json={"user_id": "a/b"}).status_code == 200
    assert process.wait(20) == 0


def test_wrong_settings_end_the_process_with_a_list() -> None:
    environ = {"PATH": os.environ["PATH"], "CANET_PORT": "x", "CANET_NOPE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "service.serve"],
        env=environ,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "CANET_PORT" in done.stderr
    assert "CANET_NOPE" in done.stderr
    assert "Traceback" not in done.stderr


async def test_over_a_real_redis_the_next_answer_reflects_the_event(redis_url: str) -> None:
    settings = Settings(
        deadline_ms=5000, redis_op_timeout_ms=2000, redis_write_timeout_ms=5000
    ).with_redis(redis_url)
    registry = CollectorRegistry()
    app = create_app(settings, models=FakeManager(FakeEngine()), registry=registry)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            for item, after in (("i5", "i6"), ("i9", "i10")):
                event: dict[str, Any] = {"user_id": "u", "item_id": item}
                await client.post("/v1/events", json={"events": [event]})
                told = (await client.post("/recommend", json={"user_id": "u", "k": 1})).json()
                assert told["items"][0]["item_id"] == after
            assert registry.get_sample_value("canet_redis_up") == 1
            labels = {"op": "recent"}
            name = "canet_redis_operation_duration_seconds_count"
            assert registry.get_sample_value(name, labels) == 2


def test_libraries_of_training_and_of_the_model_take_no_memory_before_it() -> None:
    """Each is tens of MiB; numba comes with the first model."""
    names = ("numba", "pandas", "pyarrow", "scipy", "sympy", "training")
    program = (
        "import sys, service.serve, service.engine.torch_engine;"
        f"print([name for name in {names} if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert found.stdout.strip() == "[]"

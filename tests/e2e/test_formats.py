"""A checkpoint of a later format: refused and named, by a start, a running service, a trainer."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis
from prometheus_client import CollectorRegistry

from models.checkpoint.errors import CheckpointError
from models.checkpoint.manifest import FORMAT_VERSION, MANIFEST_FILE, name_digest
from models.checkpoint.store import current, set_current
from tests.e2e.live import live, until
from tests.models.published import publish_random
from tests.training.refresh.world import acknowledged, walks
from training.plan import TrainPlan
from training.progress import Silent
from training.refresh.metrics import RefreshMetrics
from training.refresh.refresh import RefreshRequest, refresh

SAYS = "this release reads"
FORMAT = b'"format_version": %d'


def of_the_next_format(root: Path, version: str) -> str:
    """Make the version one of the next format, sound in itself; return its new name."""
    path = root / version / MANIFEST_FILE
    data = path.read_bytes()
    assert data.count(FORMAT % FORMAT_VERSION) == 1
    data = data.replace(FORMAT % FORMAT_VERSION, FORMAT % (FORMAT_VERSION + 1))
    name = f"{version[:-8]}{name_digest(data, version)}"
    path.write_bytes(data.replace(version.encode(), name.encode(), 1))
    (root / version).rename(root / name)
    return name


async def test_a_service_serves_what_it_can_read_and_says_why(
    tmp_path: Path, redis_url: str
) -> None:
    older = publish_random(tmp_path, seed=0)
    newer = of_the_next_format(tmp_path, publish_random(tmp_path, seed=1))
    set_current(tmp_path, newer)
    async with live(tmp_path, redis_url) as service:
        ready = (await service.client.get("/readyz")).json()
        assert ready["checks"]["model"] == "fallback"
        assert SAYS in ready["detail"]["model"]
        assert (await service.client.get("/v1/model")).json()["version"] == older
        # The way back by hand: CURRENT names again what can be read.
        set_current(tmp_path, older)
        await until(lambda: service.metric("model_fallback") == 0)
        set_current(tmp_path, newer)
        await until(lambda: service.metric("model_fallback") == 1)
        told = (await service.client.get("/v1/model")).json()
        assert "was refused before" in told["problem"], "and not tried again as it stands"
        asked = await service.client.post("/v1/admin/model/reload", json={"version": newer})
        assert asked.status_code == 422
        assert SAYS in asked.json()["detail"]
        assert (await service.client.get("/v1/model")).json()["version"] == older


async def test_a_trainer_drains_nothing_beside_a_live_model_that_it_cannot_read(
    tmp_path: Path, redis_url: str
) -> None:
    root = tmp_path / "models"
    root.mkdir()
    newer = of_the_next_format(root, publish_random(root))
    set_current(root, newer)
    rows = walks(["u"])
    await acknowledged(redis_url, rows)
    request = RefreshRequest(
        plan=TrainPlan(out=root, threads=1), dataset=tmp_path / "dataset", redis_url=redis_url
    )
    with pytest.raises(CheckpointError, match=SAYS):
        refresh(request, RefreshMetrics(CollectorRegistry()), Silent())
    assert current(root) == newer
    with redis.Redis.from_url(redis_url) as client:
        assert sum(client.xlen(key) for key in client.scan_iter("canet:1:ev:*")) == len(rows)

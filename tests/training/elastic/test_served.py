"""A specialised checkpoint behind the whole service: it answers, and says how small it is."""

from __future__ import annotations

from pathlib import Path

from models.checkpoint.write import write_checkpoint
from tests.e2e.live import ids, live
from tests.training.elastic.conftest import Trained
from training.elastic.specialize import specialize


async def test_it_serves_and_tells_its_bytes(
    trained: Trained, tmp_path: Path, redis_url: str
) -> None:
    found = specialize(trained.checkpoint, budget=2_000)
    version = write_checkpoint(tmp_path, found.contents)
    async with live(tmp_path, redis_url) as service:
        answer = await service.recommend(history=["i1", "i3", "i5"], k=10)
        assert answer["model_version"] == version
        assert answer["source"] == "model"
        assert len(set(ids(answer))) == 10
        model = (await service.client.get("/v1/model")).json()
        in_table = model["catalog"]["table_bytes"]
        assert in_table < found.entry.table_bytes <= 2_000
        assert service.metric("model_table_bytes", variant="stable") == in_table
        similar = await service.client.get("/v1/items/i1/similar", params={"k": 3})
        assert similar.status_code == 200

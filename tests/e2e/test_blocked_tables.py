"""A service goes over from a whole table to one in blocks, and answers, tells and measures so."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.config import SupernetConfig
from service.engine.contract import Query
from tests.e2e.live import engine_of, ids, live, until
from tests.models.builders import PREFIXES, PROJECTED, small_config
from tests.models.published import publish_random


@pytest.mark.parametrize(
    "config",
    [
        small_config(table=PROJECTED),
        small_config(table=PREFIXES),
        small_config(table=PROJECTED, two_level=True),
    ],
    ids=["ranks", "prefixes", "two levels"],
)
async def test_blocks_are_loaded_served_and_told(
    config: SupernetConfig, tmp_path: Path, redis_url: str
) -> None:
    publish_random(tmp_path)
    async with live(tmp_path, redis_url) as service:
        whole = service.metric("model_table_bytes", variant="stable")
        assert whole == 4 * 41 * 12
        version = publish_random(tmp_path, config=config)
        await until(lambda: service.value("model_info", version=version) == 1)
        history = ("item-3", "item-15", "item-39")  # one of each block
        told = await service.recommend(history=list(history), k=7, include=["scores"])
        (ranking,), _ = engine_of(tmp_path, version).recommend([Query(history=history, k=7)])
        assert told["model_version"] == version
        assert ids(told) == [item.external_id for item in ranking.items]
        assert [row["score"] for row in told["items"]] == pytest.approx(
            [item.score for item in ranking.items], abs=1e-5
        )
        assert told["compute"]["flops"] == ranking.flops.total
        model = (await service.client.get("/v1/model")).json()
        stored = config.layout.num_bytes(12)
        assert model["catalog"]["table_bytes"] == stored < whole
        assert model["catalog"]["head"] == config.head
        assert service.metric("model_table_bytes", variant="stable") == stored

"""A refresh whose live model was specialised: its narrow table is trained on, and stays narrow."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from models.checkpoint.read import read_checkpoint
from models.checkpoint.store import current
from models.checkpoint.write import write_checkpoint
from service.engine.contract import Query
from service.engine.torch_engine import load_engine
from service.lifecycle.trial import prove
from service.store.contract import Interaction
from tests.training.elastic.conftest import Trained
from tests.training.refresh.world import BASE_MS, send
from training.data.reading import read
from training.elastic.config import ElasticPlan
from training.elastic.specialize import specialize
from training.pipeline import build
from training.plan import TrainPlan
from training.progress import Silent
from training.refresh.gate import Gate
from training.refresh.metrics import RefreshMetrics
from training.refresh.refresh import RefreshRequest, Source, refresh


def test_events_reach_a_specialised_live_model(
    trained: Trained, tmp_path: Path, redis_url: str
) -> None:
    root = tmp_path / "models"
    live = write_checkpoint(root, specialize(trained.checkpoint, budget=4_000).contents)
    narrow = read_checkpoint(root / live).config.table
    assert narrow is not None
    walk = ("i1", "i3", "i5", "new")
    send(
        redis_url,
        [
            Interaction(
                user_id="someone",
                external_id=item,
                timestamp_ms=BASE_MS + place,
                event_id=str(place),
            )
            for place, item in enumerate(walk)
        ],
    )
    done = refresh(
        RefreshRequest(
            plan=TrainPlan(out=root, epochs=1, threads=1, resume=False),
            dataset=tmp_path / "dataset",
            redis_url=redis_url,
            source=Source(data=trained.data),
            gate=Gate(tolerance=1.0, min_saved=-1.0, max_saved=1.0),
        ),
        RefreshMetrics(CollectorRegistry()),
        Silent(),
    )
    assert done.model is not None
    version = current(root)
    assert version == done.model.version != live
    again = read_checkpoint(root / version)
    assert again.manifest.parent == live
    assert again.manifest.training["warm"] is True
    assert (again.manifest.specialized, again.manifest.elastic) == (None, None)
    assert again.config.table == narrow.for_rows(len(again.catalog) + 1)
    engine = load_engine(root / version, price=None, allowed=None)
    prove(engine, root / version)
    (ranking,), _ = engine.recommend([Query(history=walk[:3], k=5)])
    assert len(ranking.items) == 5


def test_what_was_narrowed_is_not_elastic_again(trained: Trained, tmp_path: Path) -> None:
    """The refusal names the checkpoint to take instead."""
    contents = specialize(trained.checkpoint, budget=4_000).contents
    narrow = read_checkpoint(tmp_path / write_checkpoint(tmp_path, contents))
    plan = TrainPlan(out=tmp_path, epochs=1, elastic=ElasticPlan(groups=4))
    interactions = read(trained.data, None, strict=False, progress=Silent())
    with pytest.raises(ValueError, match=f"root that holds {trained.checkpoint.version}"):
        build(plan, interactions, Silent(), parent=narrow)

"""From `canet train --preset compact` to an answer and to a refresh."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.main import main
from models.checkpoint.read import read_checkpoint
from models.checkpoint.store import current
from models.table.layout import dense_layout
from service.engine.contract import Query
from service.engine.torch_engine import load_engine
from service.lifecycle.trial import prove
from tests.training.refusals import check_refused
from tests.training.walkers import Told, write_data
from training.data.reading import read
from training.pipeline import build, publish_trained
from training.plan import TrainPlan
from training.progress import Silent


def test_a_compact_model_is_trained_served_and_refreshed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, root = write_data(tmp_path / "data.csv"), tmp_path / "models"
    command = ["train", "--data", str(data), "--out", str(root), "--epochs", "2", "--json"]
    assert main([*command, "--preset", "compact"]) == 0
    told = json.loads(capsys.readouterr().out)
    version = current(root)
    assert version is not None
    checkpoint = read_checkpoint(root / version)
    config = checkpoint.config
    whole = dense_layout(config.rows, config.emb_width).num_bytes(config.emb_width)
    assert config.table is not None
    assert told["preset"] == checkpoint.manifest.training["preset"] == "compact"
    assert told["table_bytes"] == config.layout.num_bytes(config.emb_width) < 0.3 * whole
    assert told["density"] < 0.4
    engine = load_engine(root / version, price=None, allowed=None)
    prove(engine, root / version)
    (ranking,), _ = engine.recommend([Query(history=("i1", "i3", "i50"), k=5)])
    assert len(ranking.items) == 5
    again = build(
        TrainPlan(out=root, epochs=1),
        read(data, None, strict=False, progress=Silent()),
        Silent(),
        parent=checkpoint,
    )
    assert again.warm
    after = read_checkpoint(root / publish_trained(root, again, seconds=1.0))
    assert after.config.table is not None
    assert after.config.layout.num_bytes(config.emb_width) < 0.3 * whole


def test_a_dense_live_model_is_made_compact(tmp_path: Path) -> None:
    """Its largest units stay; asked for by the preset's name alone."""
    data = write_data(tmp_path / "data.csv")
    interactions = read(data, None, strict=False, progress=Silent())
    plan = TrainPlan(out=tmp_path / "models", epochs=1)
    dense = build(plan, interactions, Silent())
    parent = read_checkpoint(plan.out / publish_trained(plan.out, dense, seconds=1.0))
    told = Told()
    small = build(
        TrainPlan(out=plan.out, epochs=1, preset="compact"), interactions, told, parent=parent
    )
    assert small.warm, told.lines
    assert small.evaluation.density < 0.4 < dense.evaluation.density
    assert small.evaluation.table_bytes < 0.3 * dense.evaluation.table_bytes


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (["--elastic"], 1, "leave either --elastic or --sparse unit (preset compact) out"),
        (["--method", "canet"], 1, "preset 'compact' is of method supernet"),
    ],
)
def test_what_compact_does_not_go_with_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    code: int,
    told: str,
) -> None:
    data = write_data(tmp_path / "data.csv")
    wanted = ["--preset", "compact", *options]
    check_refused(data, tmp_path / "m", capsys, wanted, code, told)

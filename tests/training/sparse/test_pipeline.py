"""`canet train --density` from a file to a checkpoint that says so, and the refresh after it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cli.main import main
from models.checkpoint.read import read_checkpoint
from models.checkpoint.store import current
from models.cost import full_cost, parameter_counts
from service.engine.torch_engine import TorchEngine
from service.lifecycle.trial import replay
from training.data.profile import profile
from training.data.reading import read
from training.pipeline import build, publish_trained
from training.plan import TrainPlan, canet_of, preset_of
from training.progress import Silent
from training.sparse.config import SparseConfig


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    lines = ["user_id,item_id,timestamp"]
    for user in range(25):
        start = int(rng.integers(40))
        lines += [f"u{user},i{(start + 2 * place) % 40},{place}" for place in range(12)]
    path = tmp_path_factory.mktemp("sparse") / "data.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def plan(root: Path, **given: object) -> TrainPlan:
    return TrainPlan(
        out=root,
        depths=(1,),
        widths=(8, 16),
        emb_widths=(8,),
        max_length=8,
        epochs=1,
        resume=False,
        **given,  # type: ignore[arg-type]
    )


def test_what_was_trained_sparsely_says_so_and_is_refreshed_so(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"train --data {data} --out {tmp_path} --depths 1 --widths 8,16 --emb-widths 8"
    words += " --max-length 8 --epochs 2 --density 0.3 --sparse-interval 5 --json"
    assert main(words.split()) == 0
    told = json.loads(capsys.readouterr().out)
    assert 0.2 < told["density"] < 0.31
    version = current(tmp_path)
    assert version is not None
    checkpoint = read_checkpoint(tmp_path / version)
    assert checkpoint.manifest.metrics["density"] == told["density"]
    assert checkpoint.evaluation["density"] == told["density"]
    noted = checkpoint.manifest.training["config"]
    assert isinstance(noted, dict)
    assert isinstance(noted["sparse"], dict)
    assert (noted["sparse"]["density"], noted["sparse"]["interval"]) == (0.3, 5)

    interactions = read(data, None, strict=False, progress=Silent())
    again = build(plan(tmp_path), interactions, Silent(), parent=checkpoint)
    assert again.warm
    assert again.preset.train.sparse == SparseConfig(density=0.3, interval=5)
    assert again.evaluation.density < 0.31


def test_units_leave_what_is_served(data: Path, tmp_path: Path) -> None:
    """From training to an engine that repeats the golden answers, and on to a refresh."""
    sparse = SparseConfig(
        density=0.5, granularity="unit", interval=4, window=4, row_blocks=4, column_block=2
    )
    interactions = read(data, None, strict=False, progress=Silent())
    wanted = replace(plan(tmp_path, sparse=sparse), epochs=2)
    trained = build(wanted, interactions, Silent())
    checkpoint = read_checkpoint(tmp_path / publish_trained(tmp_path, trained, seconds=1.0))
    config, entries = checkpoint.config, checkpoint.manifest.submodels
    assert config.table is not None
    assert not config.table.projected
    whole = parameter_counts(replace(config, table=None), config.largest)
    assert config.layout.num_bytes(config.emb_width) <= 0.6 * 4 * (whole["table"] - config.rows)
    assert entries[-1].body_bytes is not None
    assert entries[-1].body_bytes < 0.8 * 4 * whole["body"]
    assert entries[-1].flops < full_cost(replace(config, table=None), config.max_length).total
    engine = TorchEngine(checkpoint)
    replay(engine, checkpoint.golden, lambda: None)

    again = build(plan(tmp_path), interactions, Silent(), parent=checkpoint)
    assert again.warm
    assert again.preset.train.sparse == sparse
    assert again.preset.supernet.table is None  # whole again, so that units can move
    assert again.routed.ranker.config.table is not None


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    sparse = SparseConfig(density=0.5)
    with pytest.raises(ValueError, match="method canet is trained as published"):
        canet_of(TrainPlan(out=tmp_path, method="canet", sparse=sparse))


def test_a_smaller_dense_network_is_another_grid(data: Path, tmp_path: Path) -> None:
    found = profile(read(data, None, strict=False, progress=Silent()))
    sparse = SparseConfig(density=0.5, method="dense-small")
    preset = preset_of(plan(tmp_path, sparse=sparse), found, 40)
    assert preset.supernet.emb_widths == (4,)
    assert preset.train.sparse == sparse

"""From `canet train --head two_level` to an answer, a refresh and a resumed run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cli.main import main
from models.checkpoint.read import read_checkpoint
from models.checkpoint.store import current
from models.cost import scoring_flops
from service.engine.contract import Query
from service.engine.torch_engine import TorchEngine, load_engine
from service.lifecycle.trial import prove
from tests.models.builders import layout
from tests.training.refusals import check_refused
from tests.training.walkers import Told, write_data
from training.data.reading import read
from training.fit.table_plan import TableWish
from training.pipeline import build
from training.plan import TrainPlan
from training.progress import Silent

BLOCKS = ["--table-cuts", "10,30", "--table-ranks", "64,16,4"]
GIVEN = layout((11, 64), (31, 16), (61, 4), projected=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("levels") / "data.csv")


@pytest.fixture(scope="module")
def root(data: Path) -> Path:
    """A model root that the command trained into."""
    root = data.parent / "models"
    options = [*BLOCKS, "--head", "two_level", "--epochs", "2"]
    assert main(["train", "--data", str(data), "--out", str(root), *options]) == 0
    return root


def version_of(root: Path) -> str:
    version = current(root)
    assert version is not None
    return version


def test_the_command_trains_publishes_and_serves(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    version = version_of(root)
    checkpoint = read_checkpoint(root / version)
    config = checkpoint.config
    assert (config.table, config.head) == (GIVEN, "two_level")
    assert checkpoint.tensors["supernet.block_tokens"].shape == (2, 64)
    assert checkpoint.manifest.training["config"]["memory_joins"] == "afterwards"  # type: ignore[index, call-overload]
    assert checkpoint.evaluation["head"] == "two_level"
    assert checkpoint.evaluation["table_bytes"] == GIVEN.num_bytes(64)
    full = checkpoint.manifest.submodels[-1]
    flat = replace(config, two_level=False)
    memory = full.flops_scoring - scoring_flops(config, config.largest)
    assert scoring_flops(config, config.largest) == scoring_flops(flat, flat.largest) + 2 * 2 * 64
    assert memory >= 0
    query = Query(history=("i1", "i3", "i50"), k=8)
    engines = (
        load_engine(root / version, price=None, allowed=None),
        TorchEngine(checkpoint, index_from=0),
    )
    found = []
    for engine in engines:
        prove(engine, root / version)
        (ranking,), _ = engine.recommend([query])
        found.append(ranking.items)
    assert [one.external_id for one in found[0]] == [one.external_id for one in found[1]]
    assert [one.score for one in found[0]] == pytest.approx(
        [one.score for one in found[1]], abs=1e-4
    )
    capsys.readouterr()
    assert main(["checkpoints", "show", str(root)]) == 0
    assert "head         two_level" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wish", "head", "kept"),
    [
        (None, None, True),
        (TableWish(cuts=(20,), ranks=(32, 4)), None, False),
        (TableWish(cuts=(20,), ranks=(32, 4)), "flat_lowrank", False),
    ],
    ids=["as it was", "other blocks", "other head"],
)
def test_a_refresh_keeps_the_head_and_its_tokens_or_says_what_it_does(
    root: Path, data: Path, wish: TableWish | None, head: str | None, kept: bool, tmp_path: Path
) -> None:
    parent, told = read_checkpoint(root / version_of(root)), Told()
    plan = TrainPlan(out=tmp_path, epochs=1, table=wish, head=head)
    interactions = read(data, None, strict=False, progress=Silent())
    trained = build(plan, interactions, told, parent=parent)
    config = trained.fitted.supernet.config
    if head is not None:
        assert "head flat_lowrank is asked for, the parent has two_level" in "".join(told.lines)
        assert (trained.warm, config.head) == (False, "flat_lowrank")
        return
    assert trained.warm
    assert config.head == "two_level"
    assert config.tail_blocks == (2 if kept else 1)


@pytest.mark.parametrize("head", ["flat_lowrank", "two_level"])
def test_a_killed_run_goes_on_as_if_it_had_not_been(data: Path, tmp_path: Path, head: str) -> None:
    """A table in blocks: the weights after a kill and a second start are the same."""
    interactions = read(data, None, strict=False, progress=Silent())
    wish = TableWish(cuts=(10, 30), ranks=(64, 16, 4))
    plan = TrainPlan(
        out=tmp_path / "once",
        table=wish,
        head=head,
        epochs=3,
        preset="session-like",
        depths=(1, 2),
        widths=(32, 64),
    )
    once = build(plan, interactions, Silent()).fitted

    told = Told()
    halfway = replace(plan, out=tmp_path / "twice")
    steps = _StopAfterEpoch(told)
    with pytest.raises(_Killed):
        build(halfway, interactions, steps)
    again = build(halfway, interactions, told).fitted
    assert any("resuming after epoch 1" in line for line in told.lines)
    for (name, left), (_, right) in zip(
        once.supernet.named_parameters(), again.supernet.named_parameters(), strict=True
    ):
        assert torch.equal(left, right), name


class _Killed(Exception):
    pass


class _StopAfterEpoch(Silent):
    """A progress that dies when the second epoch begins."""

    def __init__(self, told: Told) -> None:
        self._told = told

    def track(self, what: str, total: int) -> Any:
        if what == "epoch 2":
            raise _Killed
        return super().track(what, total)


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (["--head", "two_level"], 1, "head two_level needs an item table in blocks"),
        (["--head", "two_level", "--table-ranks", "8"], 1, "at least two blocks"),
        (["--head", "two_level", "--table-bytes", "1MiB"], 1, "stored whole"),
        (["--head", "flat_lowrank"], 1, "head flat_lowrank needs an item table in blocks"),
        (["--head", "full", *BLOCKS], 1, "head full is of a table that is stored whole"),
        (["--head", "adaptive"], 2, "invalid choice: 'adaptive'"),
        (
            ["--head", "two_level", *BLOCKS, "--elastic"],
            1,
            "an elastic table must be stored whole",
        ),
    ],
)
def test_heads_that_do_not_fit_are_refused_and_publish_nothing(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    code: int,
    told: str,
) -> None:
    check_refused(data, tmp_path / "m", capsys, options, code, told)

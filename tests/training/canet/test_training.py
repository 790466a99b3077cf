"""Joint training: repeatable, resumable, and its checkpoint is one like any other."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.checkpoint.contents import Checkpoint
from models.checkpoint.read import read_checkpoint
from models.config import SupernetConfig
from service.engine.contract import Price, Query
from service.engine.torch_engine import TorchEngine
from tests.models.builders import small_config
from training.canet.choice import by_cost
from training.canet.config import CanetConfig
from training.canet.step import CanetStep
from training.data.interactions import make_interactions
from training.data.split import Split, leave_one_out
from training.evaluate.beside import read_contenders
from training.evaluate.evaluation import Evaluation
from training.evaluate.from_checkpoint import evaluate_checkpoint
from training.fit.fitted import Fitted
from training.fit.loop import fit
from training.pipeline import TrainResult, build, train
from training.plan import TrainPlan, TrainRequest
from training.progress import Silent

CANET = CanetConfig(
    depths=(1, 2),
    widths=(16, 32),
    emb_widths=(16, 32),
    max_length=12,
    sequences_per_batch=8,
    epochs=2,
)


class KilledError(Exception):
    """Stands for a kill."""


class KilledInEpoch2(Silent):
    def log(self, message: str) -> None:
        if message.startswith("epoch 2:"):
            raise KilledError


def rows(users: int = 40) -> tuple[list[str], list[str]]:
    rng = np.random.default_rng(0)
    who, what = [], []
    for user in range(users):
        start = int(rng.integers(30))
        for place in range(int(rng.integers(5, 15))):
            who.append(f"u{user}")
            what.append(f"i{(start + place) % 30}")
    return who, what


@pytest.fixture(scope="module")
def split() -> Split:
    return leave_one_out(make_interactions(*rows()))


def fitted(
    split: Split, canet: CanetConfig = CANET, *, root: Path | None = None, killed: bool = False
) -> Fitted:
    preset = canet.preset(num_items=len(split.catalog), seed=0)
    return fit(
        split,
        preset.supernet,
        preset.train,
        exclude_seen=False,
        progress=KilledInEpoch2() if killed else Silent(),
        resume_root=root,
        make_step=partial(CanetStep, canet),
    )


def state(run: Fitted) -> dict[str, torch.Tensor]:
    assert run.router is not None
    return {**run.supernet.state_dict(), **run.router.state_dict(prefix="router.")}


def assert_same(one: Fitted, other: Fitted) -> None:
    expected = state(other)
    for name, tensor in state(one).items():
        assert torch.equal(tensor, expected[name]), name
    assert [replace(epoch, seconds=0.0) for epoch in one.epochs] == [
        replace(epoch, seconds=0.0) for epoch in other.epochs
    ]


def test_runs_repeat_and_a_killed_one_continues_as_if_nothing_had_been(
    split: Split, tmp_path: Path
) -> None:
    whole = fitted(split)
    assert_same(whole, fitted(split))
    with pytest.raises(KilledError):
        fitted(split, root=tmp_path, killed=True)
    assert_same(whole, fitted(split, root=tmp_path))
    # Other losses are another run.
    other = fitted(split, replace(CANET, guide_weight=0.5), root=tmp_path)
    assert not torch.equal(state(whole)["router.output.bias"], state(other)["router.output.bias"])
    assert len(list(tmp_path.glob(".training-*"))) == 2


def test_the_epoch_is_chosen_by_the_routed_network_on_validation(split: Split) -> None:
    run = fitted(split)
    judged = [epoch.ndcg_routed for epoch in run.epochs]
    assert None not in judged
    assert run.best_epoch == int(np.argmax([epoch.judged for epoch in run.epochs]))


def test_a_memory_is_refused(split: Split) -> None:
    architecture: SupernetConfig = small_config(len(split.catalog))
    with pytest.raises(ValueError, match="no transition memory"):
        fit(
            split,
            architecture,
            CANET.preset(num_items=1, seed=0).train,
            exclude_seen=False,
            progress=Silent(),
            make_step=partial(CanetStep, CANET),
        )


def write(path: Path, users: int = 40) -> Path:
    pairs = zip(*rows(users), strict=True)
    lines = [f"{who},{what},{place}" for place, (who, what) in enumerate(pairs)]
    path.write_text("\n".join(["user_id,item_id,timestamp", *lines]) + "\n")
    return path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, TrainResult]:
    directory = tmp_path_factory.mktemp("canet")
    data, root = write(directory / "data.csv"), directory / "canet"
    return data, root, train(request(data, root), Silent())


def request(data: Path, root: Path, **other: Any) -> TrainRequest:
    asked: dict[str, Any] = {"method": "canet", "epochs": 1} | other
    return TrainRequest(
        data=data,
        out=root,
        depths=CANET.depths,
        widths=CANET.widths,
        emb_widths=CANET.emb_widths,
        max_length=CANET.max_length,
        **asked,
    )


def evaluated(
    checkpoint: Checkpoint, data: Path, beside: list[tuple[str, Checkpoint]]
) -> Evaluation:
    return evaluate_checkpoint(
        checkpoint,
        data,
        columns=None,
        strict=False,
        split="leave-one-out",
        price=None,
        budget=None,
        seed=0,
        progress=Silent(),
        beside=beside,
    )


def test_the_checkpoint_serves_the_whole_grid_at_price_0(
    world: tuple[Path, Path, TrainResult],
) -> None:
    data, _, result = world
    checkpoint = read_checkpoint(result.path)
    manifest = checkpoint.manifest
    assert checkpoint.config.memory is None
    assert manifest.training["method"] == "canet"
    assert manifest.router.price == 0.0
    assert manifest.router.price_curve[0].price == 0.0
    assert [entry.name for entry in manifest.submodels] == [
        submodel.name for submodel in by_cost(checkpoint.config)
    ]
    engine = TorchEngine(checkpoint)
    histories = [tuple(f"i{item}" for item in range(first, first + 4)) for first in range(6)]
    queries = [Query(history=history) for history in histories]
    rankings, _ = engine.recommend(queries)
    assert all(len(ranking.items) == 10 for ranking in rankings)
    assert engine.recommend(queries)[0] == rankings
    dear, _ = engine.recommend(queries, Price(base=1e6))
    assert {ranking.submodel for ranking in dear} == {checkpoint.config.smallest.name}
    again = evaluated(checkpoint, data, [])
    for name in ("routed", "full"):
        assert again.row(name).metrics == pytest.approx(result.evaluation.row(name).metrics)


def test_a_budget_moves_the_price_of_the_joint_router(
    world: tuple[Path, Path, TrainResult], tmp_path: Path
) -> None:
    data, _, _ = world
    result = train(request(data, tmp_path, budget=0.6), Silent())
    ratio = result.evaluation.row("routed").flops_ratio
    assert ratio is not None
    assert ratio <= 0.7


def test_rows_of_other_checkpoints_stand_beside(
    world: tuple[Path, Path, TrainResult], tmp_path: Path
) -> None:
    data, _, result = world
    ours = train(request(data, tmp_path, method="supernet"), Silent())
    canet, main = read_checkpoint(result.path), read_checkpoint(ours.path)
    found = evaluated(main, data, [("plain", canet), ("canet", canet)])
    alone = evaluated(canet, data, [])
    plain, routed = found.row("plain"), found.row("canet")
    for key in ("ndcg@10", "hr@10", "mrr@20"):
        assert plain.metrics[key] == pytest.approx(alone.row("full").metrics[key])
        assert routed.metrics[key] == pytest.approx(alone.row("routed").metrics[key])
    assert plain.submodel == canet.config.largest.name
    assert plain.flops == alone.row("full").flops
    assert routed.flops == alone.row("routed").flops
    assert routed.price == 0.0
    full = found.row("full").flops
    assert full is not None
    assert routed.flops is not None
    assert routed.flops_ratio == pytest.approx(routed.flops / full)
    difference = found.row("routed").metrics["ndcg@10"] - routed.metrics["ndcg@10"]
    assert routed.difference == pytest.approx(difference)
    assert plain.p is not None


def test_a_checkpoint_of_other_items_is_refused(
    world: tuple[Path, Path, TrainResult], tmp_path: Path
) -> None:
    data, _, result = world
    lines = data.read_text().splitlines()
    other = tmp_path / "other.csv"
    other.write_text("\n".join(line for line in lines if ",i7," not in line) + "\n")
    small = train(request(other, tmp_path / "root"), Silent())
    main, beside = read_checkpoint(result.path), read_checkpoint(small.path)
    with pytest.raises(ValueError, match=r"canet: .* knows 29 items, .* 30"):
        evaluated(main, data, [("canet", beside)])


def test_pairs_are_read_as_name_and_root(world: tuple[Path, Path, TrainResult]) -> None:
    _, root, result = world
    (name, checkpoint) = read_contenders([f"plain={root}"])[0]
    assert (name, checkpoint.version) == ("plain", result.version)
    for wrong, words in (("plain", "NAME=ROOT"), (f"best={root}", "'best' is unknown")):
        with pytest.raises(ValueError, match=words):
            read_contenders([wrong])
    with pytest.raises(ValueError, match="no CURRENT"):
        read_contenders([f"plain={root / 'none'}"])


def test_requests_that_make_no_sense_are_refused(
    world: tuple[Path, Path, TrainResult], tmp_path: Path
) -> None:
    data, _, result = world
    with pytest.raises(ValueError, match="preset 'small' is of method supernet"):
        train(request(data, tmp_path, preset="small"), Silent())
    with pytest.raises(ValueError, match="'best' is unknown; known are supernet, canet"):
        train(request(data, tmp_path, method="best"), Silent())
    with pytest.raises(ValueError, match="starts afresh"):
        build(
            TrainPlan(out=tmp_path, method="canet"),
            make_interactions(*rows()),
            Silent(),
            parent=read_checkpoint(result.path),
        )

"""A run is repeatable, survives a kill, and stops for the reason it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.config import SupernetConfig
from tests.models.builders import small_config
from training.data.interactions import make_interactions
from training.data.split import Split, leave_one_out
from training.fit.config import TrainConfig
from training.fit.fitted import Fitted
from training.fit.loop import fit
from training.progress import Progress, Silent

PLAN = TrainConfig(epochs=3, tokens_per_batch=128, random_submodels=1, warmup_steps=5)


class KilledError(Exception):
    """Stands for a kill."""


class KilledInEpoch2(Silent):
    def log(self, message: str) -> None:
        if message.startswith("epoch 2:"):
            raise KilledError


class Lines(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture(scope="module")
def split() -> Split:
    rng = np.random.default_rng(0)
    users, items = [], []
    for user in range(30):
        start = int(rng.integers(20))
        for place in range(int(rng.integers(4, 12))):
            users.append(f"u{user}")
            items.append(f"i{(start + place) % 20}")
    return leave_one_out(make_interactions(users, items))


def architecture(split: Split) -> SupernetConfig:
    return small_config(len(split.catalog))


def trained(
    split: Split,
    config: TrainConfig = PLAN,
    *,
    progress: Progress | None = None,
    root: Path | None = None,
) -> Fitted:
    return fit(
        split,
        architecture(split),
        config,
        exclude_seen=False,
        progress=progress or Silent(),
        resume_root=root,
        data_digest="data",
    )


def assert_same(one: Fitted, other: Fitted) -> None:
    weights = other.supernet.state_dict()
    for name, tensor in one.supernet.state_dict().items():
        assert torch.equal(tensor, weights[name]), name
    assert one.best_epoch == other.best_epoch
    assert [replace(epoch, seconds=0.0) for epoch in one.epochs] == [
        replace(epoch, seconds=0.0) for epoch in other.epochs
    ]


@pytest.fixture(scope="module")
def whole(split: Split) -> Fitted:
    return trained(split)


def test_same_seed_gives_the_same_weights_and_another_seed_does_not(
    split: Split, whole: Fitted
) -> None:
    assert whole.stopped == "epochs"
    assert len(whole.epochs) == 3
    assert_same(whole, trained(split))
    other = trained(split, replace(PLAN, seed=1))
    assert not torch.equal(whole.supernet.table, other.supernet.table)


def test_killed_and_resumed_equals_uninterrupted(
    split: Split, whole: Fitted, tmp_path: Path
) -> None:
    with pytest.raises(KilledError):
        trained(split, progress=KilledInEpoch2(), root=tmp_path)
    assert list(tmp_path.glob(".training-*"))
    lines = Lines()
    resumed = trained(split, progress=lines, root=tmp_path)
    assert_same(whole, resumed)
    assert "resuming after epoch 1" in lines.lines[0]
    assert (whole.resumed, resumed.resumed) == (0, 1)
    assert resumed.resume is not None
    resumed.resume.clear()
    assert not list(tmp_path.glob(".training-*"))


def test_another_plan_does_not_continue_the_killed_run(split: Split, tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        trained(split, progress=KilledInEpoch2(), root=tmp_path)
    lines = Lines()
    trained(split, replace(PLAN, seed=5, epochs=1), progress=lines, root=tmp_path)
    assert not any("resuming" in line for line in lines.lines)


def test_time_limit_stops_and_gives_validated_weights(split: Split) -> None:
    fitted = trained(split, replace(PLAN, max_seconds=1e-9))
    assert fitted.stopped == "time"
    assert len(fitted.epochs) == 1
    assert fitted.best_epoch == 0
    assert torch.isfinite(fitted.supernet.table).all()


def test_asked_to_stop_ends_the_run(split: Split) -> None:
    fitted = fit(
        split,
        architecture(split),
        PLAN,
        exclude_seen=False,
        progress=Silent(),
        should_stop=lambda: True,
    )
    assert fitted.stopped == "asked"
    assert len(fitted.epochs) == 1


def test_patience_ends_a_run_that_does_not_improve(split: Split) -> None:
    # A rate of zero never improves on the first epoch.
    fitted = trained(split, replace(PLAN, epochs=9, patience=2, learning_rate=0.0))
    assert fitted.stopped == "converged"
    assert fitted.best_epoch == 0
    assert len(fitted.epochs) == 3


def test_nothing_to_validate_with_is_refused_with_a_remedy() -> None:
    short = leave_one_out(make_interactions(["a", "a", "b", "b"], ["x", "y", "y", "x"]))
    with pytest.raises(ValueError, match=r"3 interactions .* bring more data"):
        trained(short)

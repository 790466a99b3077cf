"""Sparse training on the supernet's loop: exact at every step, also killed and resumed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.density import density, is_weight
from tests.models.builders import small_config
from training.data.interactions import make_interactions
from training.data.split import Split, leave_one_out
from training.fit.closing import close
from training.fit.config import TrainConfig
from training.fit.fitted import Fitted
from training.fit.loop import fit
from training.fit.sandwich import SandwichStep
from training.progress import Progress, Silent
from training.sparse.config import SparseConfig

SPARSE = SparseConfig(density=0.5, interval=3, window=2, start_rate=0.4, row_blocks=4)
PLAN = TrainConfig(
    epochs=4, tokens_per_batch=64, random_submodels=1, warmup_steps=5, patience=9, sparse=SPARSE
)


@pytest.fixture(scope="module")
def split() -> Split:
    rng = np.random.default_rng(0)
    users, items = [], []
    for user in range(16):
        start = int(rng.integers(20))
        for place in range(int(rng.integers(4, 10))):
            users.append(f"u{user}")
            items.append(f"i{(start + place) % 20}")
    return leave_one_out(make_interactions(users, items))


class Watched(SandwichStep):
    """Checks after every step what must always hold, and counts what moved."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.first: dict[str, Any] = {}

    def __call__(self, *arguments: Any) -> list[float]:
        losses = super().__call__(*arguments)
        if self.sparse is None or self.sparse.whole:
            return losses
        counts = [pool.counts() for pool in self.sparse.pools]
        assert counts == self.first.setdefault("counts", counts)
        masks = [
            tensor.clone()
            for pool in self.sparse.pools
            for name, tensor in pool.state().items()
            if not name.startswith("fresh")
        ]
        if "masks" in self.first:
            same = all(map(torch.equal, masks, self.first["masks"]))
            self.first["moves"] = self.first.get("moves", 0) + (not same)
        self.first["masks"] = masks
        for pool in self.sparse.pools:
            for name in pool.watched:
                parameter = self.parameters[name]
                kept = torch.ones_like(parameter)
                pool.silence({name: kept})
                dead = kept == 0
                moments = self.optimizer.state[parameter]
                for tensor in (parameter, self.average[name], *moments.values()):
                    if tensor.dim():
                        assert not tensor[dead].any(), name
        return losses


def trained(
    split: Split,
    config: TrainConfig = PLAN,
    *,
    progress: Progress | None = None,
    root: Path | None = None,
    steps: list[Watched] | None = None,
) -> Fitted:
    def make_step(*arguments: Any, **named: Any) -> Watched:
        step = Watched(*arguments, **named)
        if steps is not None:
            steps.append(step)
        return step

    return fit(
        split,
        small_config(len(split.catalog)),
        config,
        exclude_seen=False,
        progress=progress or Silent(),
        resume_root=root,
        data_digest="data",
        make_step=make_step,
    )


def state(fitted: Fitted) -> dict[str, torch.Tensor]:
    return {name: tensor.detach() for name, tensor in fitted.supernet.named_parameters()}


@pytest.mark.parametrize("granularity", ["element", "unit"])
def test_every_step_keeps_the_budget_and_what_is_left_is_within_it(
    split: Split, granularity: str
) -> None:
    steps: list[Watched] = []
    plan = replace(PLAN, sparse=replace(SPARSE, granularity=granularity))
    fitted = trained(split, plan, steps=steps)
    assert steps[0].first["moves"] > 3
    left = density(fitted.supernet)
    if granularity == "element":
        assert 0.45 < left < 0.51  # newborns may still be 0
        assert any(
            0 < int(torch.count_nonzero(one)) < one.numel()
            for name, one in state(fitted).items()
            if is_weight(name)
        )
    else:
        assert 0.45 < left < 0.65  # input and output maps are whole
    # Closing trains on from there, and what lives stays.
    closed = close(
        fitted,
        split,
        replace(plan, closing_epochs=1),
        exclude_seen=False,
        progress=Silent(),
        should_stop=lambda: False,
    )
    assert density(closed.supernet) == pytest.approx(left, abs=0.03)
    if granularity == "element":
        assert density(closed.supernet) <= 0.51


def test_exchanges_end_in_time_for_the_weights_to_settle(split: Split) -> None:
    steps: list[Watched] = []
    plan = replace(PLAN, epochs=8, patience=2, learning_rate=0.0, sparse=SPARSE)
    fitted = trained(split, plan, steps=steps)
    # Nothing improves, yet patience waits until what lives is final: after 6 of 8 epochs.
    assert len(fitted.epochs) == 8
    assert steps[0].sparse is not None
    assert not steps[0].sparse.moving


def test_static_keeps_its_choice_and_one_shot_drops_half_way(split: Split) -> None:
    steps: list[Watched] = []
    static = trained(split, replace(PLAN, sparse=replace(SPARSE, method="static")), steps=steps)
    assert "moves" not in steps[0].first or steps[0].first["moves"] == 0
    assert density(static.supernet) <= 0.51
    one_shot = trained(split, replace(PLAN, sparse=replace(SPARSE, method="one-shot")))
    assert density(one_shot.supernet) <= 0.51
    assert one_shot.best_epoch >= 2  # epochs with all the weights do not count
    stopped = trained(split, replace(PLAN, epochs=1, sparse=replace(SPARSE, method="one-shot")))
    assert density(stopped.supernet) <= 0.51


class KilledError(Exception):
    """Stands for a kill."""


class KilledInEpoch2(Silent):
    def log(self, message: str) -> None:
        if message.startswith("epoch 2:"):
            raise KilledError


@pytest.mark.parametrize("granularity", ["element", "unit"])
def test_killed_and_resumed_equals_uninterrupted(
    split: Split, granularity: str, tmp_path: Path
) -> None:
    # A window across epochs: what was summed up has to survive, too.
    plan = replace(
        PLAN, epochs=3, sparse=replace(SPARSE, interval=11, window=11, granularity=granularity)
    )
    whole = trained(split, plan)
    with pytest.raises(KilledError):
        trained(split, plan, progress=KilledInEpoch2(), root=tmp_path)
    resumed = trained(split, plan, root=tmp_path)
    for name, tensor in state(whole).items():
        assert torch.equal(tensor, state(resumed)[name]), name


def test_given_weights_keep_their_largest(split: Split) -> None:
    dense = trained(split, replace(PLAN, sparse=None))
    weights = state(dense)
    plan = replace(PLAN, epochs=1, learning_rate=0.0, sparse=replace(SPARSE, method="static"))
    fitted = fit(
        split,
        small_config(len(split.catalog)),
        plan,
        exclude_seen=False,
        progress=Silent(),
        initial=dense.supernet.state_dict(),
    )
    found = state(fitted)
    assert density(fitted.supernet) == pytest.approx(0.5, abs=0.01)
    assert all(
        torch.equal(found[name][found[name] != 0], weights[name][found[name] != 0])
        for name in weights
    )


def test_growth_explores_with_the_full_network_only(split: Split) -> None:
    steps: list[Watched] = []
    plan = replace(PLAN, epochs=6, growth_epochs=1)
    fitted = trained(split, plan, steps=steps)
    assert len({epoch.top for epoch in fitted.epochs}) == 3
    assert steps[0].first["moves"] > 3
    assert density(fitted.supernet) <= 0.51

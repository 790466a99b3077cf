"""The schedule of one run: epochs, validation, early stopping, resume, the best weights kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.config import SupernetConfig
from models.memory import TransitionMemory
from models.supernet import Supernet
from training.data.split import Split
from training.evaluate.quality import ndcg_by_submodel
from training.fit.cases import sample_cases
from training.fit.config import TrainConfig
from training.fit.fitted import EpochResult, Fitted
from training.fit.growth import rungs
from training.fit.held_out import hold_out
from training.fit.memory_folds import build_memory, fold_memories
from training.fit.resume import ResumeDirectory, run_key
from training.fit.sandwich import SandwichStep
from training.fit.step import MakeStep
from training.fit.windows import Batch, batches, cut_windows
from training.progress import Progress

_VALIDATION_CASES = 2_000


def fit(
    split: Split,
    architecture: SupernetConfig,
    config: TrainConfig,
    *,
    exclude_seen: bool,
    progress: Progress,
    resume_root: Path | None = None,
    data_digest: str = "",
    should_stop: Callable[[], bool] = lambda: False,
    initial: Mapping[str, Tensor] | None = None,
    make_step: MakeStep = SandwichStep,
) -> Fitted:
    """Train until validation stops improving, the epochs are done or the time is up.

    `make_step` is the method; the schedule is the same for all.

    `initial` is the supernet's state to start from; then `best_epoch` is -1 when no epoch was
    better on validation than that state, which is what stays. Such a run cannot be resumed.

    `should_stop` is asked after every step: True ends training like the time limit does, with
    the best weights so far.

    Deterministic for one seed, thread count and machine class, also across a kill and resume
    (the time limit excepted). The test part is not touched. ValueError when there is nothing to
    train on or nothing to validate with.
    """
    if initial is not None and resume_root is not None:
        raise ValueError("a run that starts from given weights cannot be resumed")
    run = _Run(
        split,
        architecture,
        config,
        exclude_seen,
        progress,
        resume_root,
        data_digest,
        initial,
        make_step,
    )
    torch.set_flush_denormal(True)
    try:
        return run.go(should_stop)
    finally:
        torch.set_flush_denormal(False)


class _Run:
    def __init__(
        self,
        split: Split,
        architecture: SupernetConfig,
        config: TrainConfig,
        exclude_seen: bool,
        progress: Progress,
        resume_root: Path | None,
        data_digest: str,
        initial: Mapping[str, Tensor] | None,
        make_step: MakeStep,
    ) -> None:
        self.config = config
        self.progress = progress
        self.exclude_seen = exclude_seen
        self.rng = np.random.default_rng(config.seed)
        self.supernet = Supernet(architecture)
        self.supernet.initialise(torch.Generator().manual_seed(config.seed))
        if initial is not None:
            self.supernet.load_state_dict(dict(initial))
        self.validation = sample_cases(split.validation, _VALIDATION_CASES, config.seed)
        if not len(self.validation):
            raise ValueError(
                "no user has the 3 interactions that validation needs; bring more data"
            )
        num_items, num_users = architecture.num_items, len(split.training)
        folds_U = np.random.default_rng(config.seed).permutation(num_users) % config.memory_folds
        self.memory: TransitionMemory | None = None
        memories = None
        if architecture.memory is not None:
            self.memory = build_memory(
                split.training, num_items=num_items, config=architecture.memory
            )
            if config.memory_joins == "training":
                memories = fold_memories(
                    split.training,
                    folds_U,
                    config.memory_folds,
                    num_items=num_items,
                    config=architecture.memory,
                )
        popularity = np.bincount(split.training.items, minlength=num_items + 1)
        self.step = make_step(
            self.supernet, config, memories, torch.from_numpy(popularity.astype(np.float32))
        )
        # Weights that are given have seen everybody.
        self.held_U = hold_out(
            num_users, 0.0 if initial is not None else config.router_users, config.seed
        )
        windows = cut_windows(split.training.offsets, split.training.items, architecture.max_length)
        if not windows.positions:
            raise ValueError(
                "no user has two training interactions; there is nothing to learn from"
            )
        self.windows = [
            windows.of_users((folds_U == fold) & ~self.held_U)
            for fold in range(config.memory_folds)
        ]
        self.epochs: list[EpochResult] = []
        self.best: dict[str, Tensor] = {}
        self.best_epoch, self.best_ndcg = -1, -1.0
        self.elapsed, self.resumed = 0.0, 0
        self.warm = initial is not None
        # Weights that are given have grown already.
        grows = config.growth_epochs > 0 and not self.warm
        self.ladder = rungs(architecture) if grows else (architecture.largest,)
        self.rung = self.grown_at = self.settled_at = 0
        self.step.top = self.ladder[0]
        self.sparse = (
            self.step.thin(config.sparse, given=self.warm)
            if config.sparse is not None and config.sparse.masks
            else None
        )
        self.resume = (
            ResumeDirectory(
                resume_root,
                run_key(
                    data_digest,
                    split.description,
                    architecture.to_json(),
                    replace(config, max_seconds=None).to_json(),
                    exclude_seen,
                    *([identity] if (identity := self.step.identity()) else []),
                ),
            )
            if resume_root is not None
            else None
        )

    def go(self, should_stop: Callable[[], bool]) -> Fitted:
        self._continue()
        if self.warm:
            self.best_ndcg, smallest = self._ndcg()
            self.best = self.step.weights()
            self.progress.log(
                f"as it stands: validation NDCG@10 largest {self.best_ndcg:.4f}, "
                f"smallest {smallest:.4f}"
            )
        stopped = "epochs"
        while len(self.epochs) < self.config.epochs:
            self._grow()
            if self._converged():
                stopped = "converged"
                break
            if not self._epoch(should_stop):
                stopped = "asked" if should_stop() else "time"
                break
        self.step.finish(self.best)
        if self.sparse is not None:
            self.sparse.finish()
        return Fitted(
            supernet=self.supernet,
            memory=self.memory,
            epochs=tuple(self.epochs),
            best_epoch=self.best_epoch,
            stopped=stopped,
            held_U=self.held_U,
            resume=self.resume,
            resumed=self.resumed,
            router=self.step.router,
            calibration=self.step.calibration,
        )

    def _grow(self) -> None:
        """Step to the next rung when this one has had its epochs or its share of the time."""
        if self.rung + 1 == len(self.ladder):
            return
        name = self.ladder[self.rung].name
        done = sum(epoch.top == name for epoch in self.epochs)
        limit = self.config.max_seconds
        share = self.config.growth_share * (self.rung + 1) / (len(self.ladder) - 1)
        if done and (
            done >= self.config.growth_epochs
            or (limit is not None and self.elapsed >= share * limit)
        ):
            self.rung += 1
            self.step.grow(self.ladder[self.rung])
            self.grown_at = len(self.epochs)
            self.best_epoch, self.best_ndcg = -1, -1.0

    def _thin(self, steps: int) -> None:
        """Tell the sparse training how far the full network's is, before an epoch of `steps`."""
        if self.sparse is None or self.rung + 1 < len(self.ladder):
            return
        planned = self.config.epochs - self.grown_at
        share = (len(self.epochs) - self.grown_at) / planned
        if self.config.max_seconds is not None:
            before = sum(epoch.seconds for epoch in self.epochs[: self.grown_at])
            left = max(self.config.max_seconds - before, 1e-9)
            share = max(share, (self.elapsed - before) / left)
        if self.sparse.begin_epoch(share, 1 / (planned * steps)):
            self.settled_at = len(self.epochs)
            if self.sparse.config.method == "one-shot":  # what was best had all its weights
                self.best_epoch, self.best_ndcg = -1, -1.0

    def _converged(self) -> bool:
        if self.rung + 1 < len(self.ladder) or (self.sparse is not None and self.sparse.moving):
            return False
        since = max(self.best_epoch, self.grown_at - 1, self.settled_at - 1)
        return len(self.epochs) - 1 - since >= self.config.patience

    def _epoch(self, should_stop: Callable[[], bool]) -> bool:
        """Run one epoch and validate; False when it was cut short."""
        began = time.monotonic()
        self.step.begin_epoch(len(self.epochs))
        plan: list[tuple[int, Batch]] = [
            (fold, batch)
            for fold, windows in enumerate(self.windows)
            for batch in batches(windows, self.config.tokens_per_batch, self.rng)
        ]
        self._thin(len(plan))
        losses = []
        in_time = True
        number = len(self.epochs) + 1
        with self.progress.track(f"epoch {number}", len(plan)) as advance:
            for place in self.rng.permutation(len(plan)):
                fold, batch = plan[place]
                losses.append(self.step(batch, fold, self.rng)[:2])
                advance(1)
                if self._out_of_time(began) or should_stop():
                    in_time = False
                    break
        self._validate(began, np.mean(losses, axis=0).tolist())
        self.elapsed += time.monotonic() - began
        self._save()
        return in_time

    def _out_of_time(self, began: float) -> bool:
        limit = self.config.max_seconds
        return limit is not None and self.elapsed + time.monotonic() - began >= limit

    def _validate(self, began: float, losses: list[float]) -> None:
        current = self.step.weights()
        self.step.adopt(self.step.average)
        largest, smallest = self._ndcg()
        result = EpochResult(
            epoch=len(self.epochs),
            top=self.step.top.name,
            loss_largest=losses[0],
            loss_smallest=losses[-1],
            ndcg_largest=largest,
            ndcg_smallest=smallest,
            ndcg_routed=self.step.routed_ndcg(self.validation, exclude_seen=self.exclude_seen),
            seconds=time.monotonic() - began,
        )
        self.epochs.append(result)
        better = result.judged > self.best_ndcg
        if better:
            self.best_epoch, self.best_ndcg = result.epoch, result.judged
            self.best = self.step.weights()
        self.step.adopt(current)
        routed = "" if result.ndcg_routed is None else f"routed {result.ndcg_routed:.4f}, "
        self.progress.log(
            f"epoch {result.epoch + 1}: loss {result.loss_largest:.4f}, validation NDCG@10 "
            f"{routed}{result.top} {largest:.4f}, smallest {smallest:.4f}, {result.seconds:.1f} s"
            + (" (best)" if better else "")
        )

    def _ndcg(self) -> tuple[float, float]:
        """Return validation NDCG@10 of the largest one trained and of the smallest submodel."""
        config = self.supernet.config
        largest, smallest = ndcg_by_submodel(
            self.supernet,
            self.memory,
            (self.step.top, config.smallest),
            self.validation,
            exclude_seen=self.exclude_seen,
        )
        return largest, smallest

    def _save(self) -> None:
        if self.resume is None:
            return
        tensors = self.step.state()
        tensors.update({f"best.{name}": tensor for name, tensor in self.best.items()})
        facts = {
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "best_epoch": self.best_epoch,
            "elapsed": self.elapsed,
            "rung": self.rung,
            "grown_at": self.grown_at,
            "settled_at": self.settled_at,
            "rng": self.rng.bit_generator.state,
        }
        self.resume.save(tensors, facts)

    def _continue(self) -> None:
        saved = self.resume.load() if self.resume is not None else None
        if saved is None:
            return
        tensors, facts = saved
        self.step.load_state(tensors)
        self.best = {
            name.removeprefix("best."): tensor
            for name, tensor in tensors.items()
            if name.startswith("best.")
        }
        self.epochs = [EpochResult(**epoch) for epoch in facts["epochs"]]
        self.best_epoch = facts["best_epoch"]
        self.best_ndcg = self.epochs[self.best_epoch].judged
        self.elapsed, self.resumed = facts["elapsed"], len(self.epochs)
        self.rung, self.grown_at = facts["rung"], facts["grown_at"]
        self.settled_at = facts["settled_at"]
        self.step.top = self.ladder[self.rung]
        self.rng.bit_generator.state = facts["rng"]
        self.progress.log(f"resuming after epoch {len(self.epochs)} of an unfinished run")

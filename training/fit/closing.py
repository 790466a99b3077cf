"""After the main fit: weigh the memory, and train a little on the users the router learned from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from models.config import Submodel
from training.data.split import EvalCases, Split
from training.fit.config import TrainConfig
from training.fit.fitted import Fitted
from training.fit.gains import fit_gains
from training.fit.loop import fit
from training.fit.sandwich import SandwichStep
from training.fit.step import MakeStep
from training.progress import Progress

_CLOSING_RATE = 0.3


def weigh_memory(
    fitted: Fitted,
    config: TrainConfig,
    cases: EvalCases,
    exclude_seen: bool,
    progress: Progress,
    submodels: Sequence[Submodel] | None = None,
) -> None:
    """Set the memory gains of the submodels, all by default, where training has not."""
    if fitted.memory is None or config.memory_joins == "training":
        return
    gains = fit_gains(
        fitted.supernet,
        fitted.memory,
        submodels or fitted.supernet.config.submodels,
        cases,
        exclude_seen=exclude_seen,
        progress=progress,
    )
    progress.log(
        "weight of the transition memory: "
        + ", ".join(f"{name} {gain:g}" for name, gain in gains.items())
    )


def close(
    fitted: Fitted,
    split: Split,
    config: TrainConfig,
    exclude_seen: bool,
    progress: Progress,
    should_stop: Callable[[], bool],
    make_step: MakeStep = SandwichStep,
) -> Fitted:
    """Return the model after the closing epochs on everybody, held-out users included.

    `make_step` makes the steps of the method that has trained so far.
    """
    if not config.closing_epochs:
        return fitted
    progress.log("closing: everybody's interactions, at a lower rate")
    plan = replace(
        config,
        epochs=config.closing_epochs,
        patience=config.closing_epochs,
        learning_rate=config.learning_rate * _CLOSING_RATE,
        max_seconds=None,
        sparse=None if config.sparse is None else config.sparse.still(),
    )
    closed = fit(
        split,
        fitted.supernet.config,
        plan,
        exclude_seen=exclude_seen,
        progress=progress,
        should_stop=should_stop,
        initial=fitted.supernet.state_dict(),
        make_step=make_step,
    )
    return replace(
        closed,
        epochs=fitted.epochs + closed.epochs,
        best_epoch=(
            fitted.best_epoch if closed.best_epoch < 0 else len(fitted.epochs) + closed.best_epoch
        ),
        stopped=fitted.stopped,
        held_U=fitted.held_U,
        resume=fitted.resume,
        resumed=fitted.resumed,
    )

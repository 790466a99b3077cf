"""What one training run is told: frozen, checked, and written into the checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from training.sparse.config import SparseConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Hyper-parameters of one run. Times are seconds, rates are per step.

    `full_softmax_limit` is the largest catalog scored in full at every training position; above
    it each step draws about `num_negatives` negatives for the whole batch and corrects their
    scores by the logarithm of their inclusion probability.

    Every step trains the largest submodel, the smallest and `random_submodels` others; those
    see `student_share` of the batch's positions and learn from the next item and, with weight
    `distillation`, from the largest submodel's distribution.

    Training grows: the first `growth_epochs` epochs of each rung below the full network (see
    `growth.rungs`) train only submodels up to that rung, in at most `growth_share` of
    `max_seconds`; patience counts on the full network only.

    With `memory_joins` "training" every score in training has the cross-fitted memory added, so
    the networks learn what it lacks: quick to be useful. With "afterwards" they learn without
    it, which takes longer and ends higher; `gains.fit_gains` then weighs it.

    `router_users` of the users are kept from the weights, so that the router can learn from all
    their positions how the submodels do with somebody new; `closing_epochs` then train on
    everybody.

    `sparse` keeps a part of the weights at zero while they train; None trains densely.

    `threads` are torch's; None takes one per core. A run repeats exactly for one thread count.
    """

    seed: int = 0
    epochs: int = 60
    patience: int = 4
    evaluate_every: int = 1
    tokens_per_batch: int = 4096
    learning_rate: float = 1e-3
    warmup_steps: int = 200
    weight_decay: float = 0.0
    average_decay: float = 0.999
    dropout: float = 0.2
    random_submodels: int = 2
    growth_epochs: int = 0
    growth_share: float = 0.4
    router_users: float = 0.0
    closing_epochs: int = 0
    student_share: float = 0.5
    distillation: float = 0.5
    full_softmax_limit: int = 10_000
    num_negatives: int = 3_000
    memory_joins: str = "training"
    memory_folds: int = 4
    chunk_cells: int = 4_000_000
    max_seconds: float | None = None
    sparse: SparseConfig | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "patience", "evaluate_every", "tokens_per_batch", "num_negatives"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.memory_joins not in ("training", "afterwards"):
            raise ValueError(
                f"memory_joins is {self.memory_joins!r}; give 'training' or 'afterwards'"
            )
        for name in ("growth_epochs", "closing_epochs"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0")
        if not 0 <= self.router_users <= 0.5:
            raise ValueError(f"router_users is {self.router_users}; it must lie in 0..0.5")
        for name in (
            *("dropout", "student_share", "distillation", "average_decay", "growth_share"),
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie in 0..1")
        if self.memory_folds < 2:
            raise ValueError(f"memory_folds is {self.memory_folds}; it must be at least 2")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads is {self.threads}; it must be at least 1")
        if self.max_seconds is not None and self.max_seconds <= 0:
            raise ValueError(f"max_seconds is {self.max_seconds}; it must be positive")

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

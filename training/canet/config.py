"""The published method's hyper-parameters, with its defaults."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

from models.config import SupernetConfig
from training.fit.config import TrainConfig
from training.fit.presets import Preset

# These have options of their own.
_ELSEWHERE = ("max_length", "epochs")


@dataclass(frozen=True, slots=True, kw_only=True)
class CanetConfig:
    """Grid, plan and losses of joint training; see `step.CanetStep`.

    The loss is the next item's cross-entropy, plus `guide_weight` times the guide loss, plus
    `uniform_weight` times the pull to uniform routing. The temperature of the router's draws
    falls by equal ratios from `first_tau` to `last_tau` within `tau_epochs` epochs and stays.
    A history is easy when the smallest submodel ranks its newest target within `easy_rank`.
    `patience` epochs without a better routed validation NDCG@10 end the run.
    """

    depths: tuple[int, ...] = (2, 4, 6, 8)
    widths: tuple[int, ...] = (64, 96, 128)
    emb_widths: tuple[int, ...] = (64, 96, 128)
    num_heads: int = 4
    max_length: int = 20
    layer_sharing: str = "none"
    epochs: int = 60
    patience: int = 10
    sequences_per_batch: int = 12
    learning_rate: float = 1e-3
    dropout: float = 0.2
    guide_weight: float = 0.01
    uniform_weight: float = 0.01
    first_tau: float = 1.0
    last_tau: float = 0.1
    tau_epochs: int = 10
    easy_rank: int = 10

    def __post_init__(self) -> None:
        for name in ("sequences_per_batch", "tau_epochs", "easy_rank"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("guide_weight", "uniform_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")
        if not 0 < self.last_tau <= self.first_tau:
            raise ValueError(
                f"tau runs from {self.first_tau} to {self.last_tau}; it must fall and stay above 0"
            )

    def tau(self, epoch: int) -> float:
        """Return the temperature of epoch `epoch`, from 0."""
        share = min(1.0, epoch / self.tau_epochs)
        return float(self.first_tau * (self.last_tau / self.first_tau) ** share)

    def preset(self, *, num_items: int, seed: int) -> Preset:
        """Return the architecture, without a transition memory, and the plan."""
        return Preset(
            name="canet",
            reason="method canet",
            supernet=SupernetConfig(
                num_items=num_items,
                max_length=self.max_length,
                depths=self.depths,
                widths=self.widths,
                emb_widths=self.emb_widths,
                num_heads=self.num_heads,
                layer_sharing=self.layer_sharing,
                memory=None,
            ),
            train=TrainConfig(
                seed=seed,
                epochs=self.epochs,
                patience=self.patience,
                tokens_per_batch=self.sequences_per_batch * self.max_length,
                learning_rate=self.learning_rate,
                warmup_steps=1,
                average_decay=0.0,
                dropout=self.dropout,
            ),
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values = asdict(self)
        return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}


def hyper_parameters(words: Iterable[str]) -> dict[str, int | float]:
    """Return fields of CanetConfig from words NAME=VALUE.

    ValueError for a name that is none, or has an option of its own, and for a value that is no
    number of its kind.
    """
    kinds: dict[str, type[int] | type[float]] = {
        field.name: int if field.type == "int" else float
        for field in fields(CanetConfig)
        if field.type in ("int", "float") and field.name not in _ELSEWHERE
    }
    found: dict[str, int | float] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or name not in kinds:
            raise ValueError(
                f"{word!r} is no hyper-parameter of method canet; write NAME=VALUE with one of "
                f"{', '.join(kinds)}"
            )
        try:
            found[name] = kinds[name](text)
            finite = math.isfinite(found[name])
        except ValueError:
            finite = False
        if not finite:
            kind = "a whole number" if kinds[name] is int else "a finite number"
            raise ValueError(f"{name} is {text!r}; give {kind}")
    return found

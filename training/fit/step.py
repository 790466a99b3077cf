"""What the schedule trains: named weights, their average, an optimiser, and one step at a time.

A method of training is a subclass: `sandwich.SandwichStep`, or the joint step of CANet.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from models.config import Submodel
from models.memory import TransitionMemory
from models.router import Router
from models.supernet import Supernet
from training.data.split import EvalCases
from training.elastic.narrow import Calibration
from training.fit.config import TrainConfig
from training.fit.windows import Batch
from training.sparse.config import SparseConfig
from training.sparse.controller import SparseController
from training.sparse.pools import make_pools


class Step(ABC):
    """Holds weights, optimiser and averaged weights; calling it takes one step.

    No submodel beyond `top` is trained. `router` is set where the method trains one along,
    `calibration` where the table is elastic.
    """

    router: Router | None = None
    sparse: SparseController | None = None
    calibration: Calibration | None = None

    def __init__(
        self, supernet: Supernet, config: TrainConfig, modules: Mapping[str, nn.Module]
    ) -> None:
        """Train every parameter of `modules`; the keys stand before the parameters' names."""
        self.supernet = supernet
        self.config = config
        self.top = supernet.config.largest
        self.steps = 0
        self.parameters: dict[str, nn.Parameter] = {
            prefix + name: parameter
            for prefix, module in modules.items()
            for name, parameter in module.named_parameters()
        }
        self.optimizer = torch.optim.AdamW(
            list(self.parameters.values()),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.average = {name: p.detach().clone() for name, p in self.parameters.items()}
        self._buffers: dict[str, Tensor] = {
            prefix + name: buffer
            for prefix, module in modules.items()
            for name, buffer in module.named_buffers()
        }

    @abstractmethod
    def __call__(self, batch: Batch, fold: int, generator: np.random.Generator) -> list[float]:
        """Take one step; return mean cross-entropies, the largest submodel's first."""

    def begin_epoch(self, epoch: int) -> None:
        """Prepare for epoch `epoch`, from 0; also called when a run is continued there."""
        del epoch

    def finish(self, best: Mapping[str, Tensor]) -> None:
        """Take the best weights, in the form that is served; called once."""
        self.adopt(best)

    def routed_ndcg(self, cases: EvalCases, *, exclude_seen: bool) -> float | None:
        """Return NDCG@10 of the cases, routed; None where the method trains no router."""
        del cases, exclude_seen
        return None

    def identity(self) -> dict[str, Any]:
        """Return the method's own hyper-parameters as JSON; a run with others is another run."""
        return {}

    def thin(self, sparse: SparseConfig, *, given: bool) -> SparseController:
        """Keep a part of the supernet's weights at 0 from now on; see `SparseController`."""
        self.sparse = SparseController(
            sparse,
            make_pools(self.supernet, sparse),
            self.parameters,
            self.optimizer,
            self.average,
            given=given,
            seed=self.config.seed,
        )
        return self.sparse

    def weights(self) -> dict[str, Tensor]:
        """Return a copy of every parameter and buffer by name."""
        return {
            name: tensor.detach().clone()
            for name, tensor in (*self.parameters.items(), *self._buffers.items())
        }

    @torch.no_grad()
    def adopt(self, weights: Mapping[str, Tensor]) -> None:
        """Set the parameters and buffers that `weights` names."""
        tensors = {**self.parameters, **self._buffers}
        for name, tensor in weights.items():
            tensors[name].copy_(tensor)

    def grow(self, top: Submodel) -> None:
        """Train up to `top` from now on, from the averaged weights; rate and average start anew."""
        self.top = top
        self.steps = 0
        self.adopt(self.average)

    def state(self) -> dict[str, Tensor]:
        """Return everything that continuing needs, flat, as copies: see `load_state`."""
        state = {"steps": torch.tensor(self.steps)}
        for name, buffer in self._buffers.items():
            state[f"buffer.{name}"] = buffer.clone()
        for name, parameter in self.parameters.items():
            state[f"parameter.{name}"] = parameter.detach().clone()
            state[f"average.{name}"] = self.average[name].clone()
            for key, value in self.optimizer.state[parameter].items():
                state[f"{key}.{name}"] = value.clone()
        if self.sparse is not None:
            state.update({f"sparse.{name}": one for name, one in self.sparse.state().items()})
        return state

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue where `state` was taken: the next steps are the ones that would have come."""
        self.steps = int(state["steps"])
        for name, buffer in self._buffers.items():
            buffer.copy_(state[f"buffer.{name}"])
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(state[f"parameter.{name}"])
                self.average[name].copy_(state[f"average.{name}"])
                if f"step.{name}" not in state:  # no gradient has reached it yet
                    continue
                self.optimizer.state[parameter] = {
                    key: state[f"{key}.{name}"].clone() for key in ("step", "exp_avg", "exp_avg_sq")
                }
        if self.sparse is not None:
            self.sparse.load_state(
                {
                    name.removeprefix("sparse."): tensor
                    for name, tensor in state.items()
                    if name.startswith("sparse.")
                }
            )

    def _warm_up(self) -> None:
        """Set the learning rate of the coming step."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * min(
                1.0, (self.steps + 1) / self.config.warmup_steps
            )

    def _update(self) -> None:
        """Step along the gradients, padding's row left alone, and move the average after it."""
        padding = self.supernet.item_table.parts[0].rows_NR.grad
        assert padding is not None
        padding[0] = 0.0
        if self.sparse is not None:
            self.sparse.before_step()
        self.optimizer.step()
        self.steps += 1
        decay = min(self.config.average_decay, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            targets = list(self.average.values())
            torch._foreach_lerp_(targets, list(self.parameters.values()), 1 - decay)
        if self.sparse is not None:
            self.sparse.after_step()


class MakeStep(Protocol):
    """Makes a method's step for a run that begins."""

    def __call__(
        self,
        supernet: Supernet,
        config: TrainConfig,
        memories: Sequence[TransitionMemory] | None,
        popularity_V: Tensor,
    ) -> Step:
        """Return the step.

        `memories[f]` counts every user outside fold f, scaled up to the whole, so that a training
        target never meets its own count. `popularity_V` float32 counts training interactions.
        """
        ...

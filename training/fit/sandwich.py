"""One optimisation step: largest, smallest and random submodels, distilled from the largest."""

# B batch, L length, P positions, W memory window, E embedding width

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.config import Submodel
from models.memory import TransitionMemory
from models.network import encode_all
from models.supernet import Supernet
from training.fit.config import TrainConfig
from training.fit.growth import within
from training.fit.head_loss import (
    Columns,
    Member,
    MemoryEntries,
    all_columns,
    drawn_columns,
    head_backward,
)
from training.fit.windows import Batch


class SandwichStep:
    """Holds the optimiser and the averaged weights; calling it takes one step.

    No submodel beyond `top` is trained.

    `memories[f]` counts every user outside fold f, scaled up to the whole, so that a training
    target never meets its own count. `popularity_V` float32 counts training interactions.
    """

    def __init__(
        self,
        supernet: Supernet,
        config: TrainConfig,
        memories: Sequence[TransitionMemory] | None,
        popularity_V: Tensor,
    ) -> None:
        self.supernet = supernet
        self.config = config
        self.memories = memories
        self.top = supernet.config.largest
        self.steps = 0
        self.optimizer = torch.optim.AdamW(
            supernet.parameters(),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.average = {name: p.detach().clone() for name, p in supernet.named_parameters()}
        self._full = all_columns(supernet.config.num_items)
        self._inclusion_V = (
            None
            if supernet.config.num_items <= config.full_softmax_limit
            else inclusion_probabilities(popularity_V, config.num_negatives)
        )

    def __call__(self, batch: Batch, fold: int, generator: np.random.Generator) -> list[float]:
        """Take one step; return the mean cross-entropy of each submodel drawn, largest first."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * min(
                1.0, (self.steps + 1) / self.config.warmup_steps
            )
        draws = torch.Generator().manual_seed(int(generator.integers(2**62)))
        torch.manual_seed(int(generator.integers(2**62)))  # dropout draws from the global state
        length = batch.item_ids_BL.shape[1]
        places_P = batch.targets_BL.reshape(-1).nonzero().squeeze(1)
        places_P = places_P[torch.randperm(len(places_P), generator=draws)]
        targets_P = batch.targets_BL.reshape(-1).index_select(0, places_P)
        student_positions = max(1, math.ceil(self.config.student_share * len(places_P)))
        members: list[Member] = []
        for submodel in self._draw(generator):
            weights = self.supernet.slice(submodel)
            encoded_BLE = encode_all(weights, batch.item_ids_BL, dropout=self._dropout)
            chosen = places_P if not members else places_P[:student_positions]
            flat = encoded_BLE.view(-1, submodel.emb_width).index_select(0, chosen)
            members.append(Member(weights=weights, query_PE=flat))
        self.optimizer.zero_grad(set_to_none=True)
        losses = head_backward(
            self.supernet,
            members,
            targets_P,
            self._columns(targets_P, draws),
            self._memory_entries(batch.item_ids_BL, places_P, length, fold),
            distillation=self.config.distillation,
            chunk_cells=self.config.chunk_cells,
        )
        assert self.supernet.table.grad is not None
        self.supernet.table.grad[0] = 0.0
        self.optimizer.step()
        self.steps += 1
        decay = min(self.config.average_decay, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            targets = list(self.average.values())
            torch._foreach_lerp_(targets, list(self.supernet.parameters()), 1 - decay)
        return losses

    def grow(self, top: Submodel) -> None:
        """Train up to `top` from now on, from the averaged weights; rate and average start anew."""
        self.top = top
        self.steps = 0
        with torch.no_grad():
            for name, parameter in self.supernet.named_parameters():
                parameter.copy_(self.average[name])

    def state(self) -> dict[str, Tensor]:
        """Return everything that continuing needs, flat, as copies: see `load_state`."""
        state = {"steps": torch.tensor(self.steps)}
        for name, parameter in self.supernet.named_parameters():
            state[f"parameter.{name}"] = parameter.detach().clone()
            state[f"average.{name}"] = self.average[name].clone()
            for key, value in self.optimizer.state[parameter].items():
                state[f"{key}.{name}"] = value.clone()
        return state

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue where `state` was taken: the next steps are the ones that would have come."""
        self.steps = int(state["steps"])
        with torch.no_grad():
            for name, parameter in self.supernet.named_parameters():
                parameter.copy_(state[f"parameter.{name}"])
                self.average[name].copy_(state[f"average.{name}"])
                if f"step.{name}" not in state:  # no gradient has reached it yet
                    continue
                self.optimizer.state[parameter] = {
                    key: state[f"{key}.{name}"].clone() for key in ("step", "exp_avg", "exp_avg_sq")
                }

    def _draw(self, generator: np.random.Generator) -> list[Submodel]:
        grid = [one for one in self.supernet.config.submodels if within(one, self.top)]
        drawn = [grid[-1]]
        if len(grid) > 1:
            drawn.append(grid[0])
        between = grid[1:-1]
        count = min(self.config.random_submodels, len(between))
        drawn += [between[i] for i in generator.choice(len(between), count, replace=False)]
        return drawn

    def _dropout(self, tensor: Tensor) -> Tensor:
        return F.dropout(tensor, self.config.dropout)

    def _columns(self, targets_P: Tensor, draws: torch.Generator) -> Columns:
        if self._inclusion_V is None:
            return self._full
        return drawn_columns(targets_P, self._inclusion_V, draws)

    def _memory_entries(
        self, item_ids_BL: Tensor, places_P: Tensor, length: int, fold: int
    ) -> MemoryEntries | None:
        if self.memories is None:
            return None
        memory = self.memories[fold]
        window = memory.config.window
        padded = F.pad(item_ids_BL, (window - 1, 0))
        rows = torch.div(places_P, length, rounding_mode="floor")
        newest = places_P % length + window - 1
        flat = rows * padded.shape[1] + newest
        recent_PW = padded.reshape(-1)[flat[:, None] - torch.arange(window)]
        rows_N, items_N, weights_N = memory.entries(recent_PW)
        return MemoryEntries(rows_N=rows_N, items_N=items_N, weights_N=weights_N)


def inclusion_probabilities(popularity_V: Tensor, num_negatives: int) -> Tensor:
    """Return each row's chance to be drawn: half by popularity^0.75, half alike; padding never.

    float32, at most 1; about `num_negatives` rows are drawn in expectation (fewer when popular
    rows hit the limit of 1).
    """
    weights = popularity_V.clamp(min=0.0) ** 0.75
    weights[0] = 0.0
    uniform = torch.ones_like(weights)
    uniform[0] = 0.0
    shares = 0.5 * weights / weights.sum().clamp(min=1e-12) + 0.5 * uniform / uniform.sum()
    return (num_negatives * shares).clamp(max=1.0)

"""One optimisation step: largest, smallest and random submodels, distilled from the largest."""

# B batch, L length, P positions, W memory window, E embedding width

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.config import Submodel
from models.memory import TransitionMemory
from models.network import NetworkWeights, encode_all
from models.supernet import Supernet
from training.fit.config import TrainConfig
from training.fit.growth import within
from training.fit.head import head_of
from training.fit.head_loss import Member, MemoryEntries
from training.fit.step import Step
from training.fit.windows import Batch


class SandwichStep(Step):
    """Trains the largest submodel, the smallest and random ones; see `MakeStep`."""

    def __init__(
        self,
        supernet: Supernet,
        config: TrainConfig,
        memories: Sequence[TransitionMemory] | None,
        popularity_V: Tensor,
        *,
        more: Mapping[str, nn.Module] | None = None,
    ) -> None:
        """Train the supernet and, with it, every parameter of `more`; see `Step`."""
        super().__init__(supernet, config, {"": supernet, **(more or {})})
        self.memories = memories
        self._head = head_of(supernet, config, popularity_V)

    def __call__(self, batch: Batch, fold: int, generator: np.random.Generator) -> list[float]:
        """Take one step; return the mean cross-entropy of each network drawn, largest first."""
        self._warm_up()
        draws = torch.Generator().manual_seed(int(generator.integers(2**62)))
        torch.manual_seed(int(generator.integers(2**62)))  # dropout draws from the global state
        length = batch.item_ids_BL.shape[1]
        places_P = batch.targets_BL.reshape(-1).nonzero().squeeze(1)
        places_P = places_P[torch.randperm(len(places_P), generator=draws)]
        targets_P = batch.targets_BL.reshape(-1).index_select(0, places_P)
        student_positions = max(1, math.ceil(self.config.student_share * len(places_P)))
        members: list[Member] = []
        for weights in self._networks(generator):
            encoded_BLE = encode_all(weights, batch.item_ids_BL, dropout=self._dropout)
            chosen = places_P if not members else places_P[:student_positions]
            flat = encoded_BLE.view(-1, weights.submodel.emb_width).index_select(0, chosen)
            members.append(Member(weights=weights, query_PE=flat))
        self.optimizer.zero_grad(set_to_none=True)
        memory = self._memory_entries(batch.item_ids_BL, places_P, length, fold)
        losses = self._head(members, targets_P, memory, draws)
        self._add_terms(draws)
        self._update()
        return losses

    def _add_terms(self, draws: torch.Generator) -> None:
        """Add the gradients of what a step's loss has beside the networks'; here nothing."""

    def _networks(self, generator: np.random.Generator) -> list[NetworkWeights]:
        """Return the networks of one step, the teacher first."""
        return [self.supernet.slice(submodel) for submodel in self._draw(generator)]

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

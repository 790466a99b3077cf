"""CANet's joint step: router and supernet together, one drawn submodel per history."""

# B batch, L length, S submodels, C router features, G statistics per item, W newest items

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from models.memory import TransitionMemory
from models.memory_lookup import newest
from models.ranker import Ranker, recent
from models.router import (
    NEWEST,
    ROUTER_FEATURES,
    ItemView,
    Router,
    RouterForward,
    features,
)
from models.supernet import Supernet
from training.canet.choice import Membership, by_cost, draw
from training.canet.config import CanetConfig
from training.canet.losses import easy_histories, guide_loss, uniform_loss
from training.canet.masked import Gates, masked_encode
from training.data.split import EvalCases
from training.evaluate.metrics import ndcg_at
from training.evaluate.quality import ranks_by_submodel
from training.fit.cases import cases_at
from training.fit.config import TrainConfig
from training.fit.head import head_of
from training.fit.head_loss import Member
from training.fit.router_fit import HIDDEN
from training.fit.step import Step
from training.fit.windows import Batch

_LEAST_RATE = 0.01
_LEAST_SCALE = 1e-3


class CanetStep(Step):
    """Trains the whole grid and the router by straight-through draws; see `CanetConfig`.

    The router's outputs are logits over `by_cost(config)`. ValueError for an architecture with a
    transition memory: the method has none.
    """

    def __init__(
        self,
        canet: CanetConfig,
        supernet: Supernet,
        config: TrainConfig,
        memories: Sequence[TransitionMemory] | None,
        popularity_V: Tensor,
    ) -> None:
        if memories is not None or supernet.config.memory is not None:
            raise ValueError("method canet has no transition memory; set memory to None")
        self._served = by_cost(supernet.config)
        self.router: Router = new_router(len(self._served), config.seed)
        super().__init__(supernet, config, {"": supernet, "router.": self.router})
        self._canet = canet
        self._tau = canet.tau(0)
        self._membership = Membership.of(supernet.config)
        self._head = head_of(supernet, config, popularity_V)
        self._view = ItemView(supernet.item_table.detach(), None, live=True)

    def __call__(self, batch: Batch, fold: int, generator: np.random.Generator) -> list[float]:
        """Take one step; return the mean cross-entropy under the drawn submodels."""
        del fold
        self._warm_up()
        draws = torch.Generator().manual_seed(int(generator.integers(2**62)))
        torch.manual_seed(int(generator.integers(2**62)))  # dropout draws from the global state
        ids_BL = batch.item_ids_BL
        features_BC = self._features(ids_BL.numpy())
        self._follow(features_BC)
        logits_BS = self.router(features_BC)
        easy_B = easy_histories(
            self.supernet.slice(self.supernet.config.smallest),
            ids_BL,
            batch.targets_BL,
            easy_rank=self._canet.easy_rank,
        )
        guide = guide_loss(self._membership.log_marginals(logits_BS), easy_B)
        beside = self._canet.guide_weight * guide + self._canet.uniform_weight * uniform_loss(
            logits_BS
        )
        choice_BS = draw(logits_BS, self._tau, draws)
        gates = Gates.of(self.supernet.config, self._membership.marginals(choice_BS))
        encoded_BLE = masked_encode(self.supernet, gates, ids_BL, dropout=self._dropout)
        places_P = batch.targets_BL.reshape(-1).nonzero().squeeze(1)
        targets_P = batch.targets_BL.reshape(-1).index_select(0, places_P)
        self.optimizer.zero_grad(set_to_none=True)
        # The router's graph leads to both losses.
        torch.autograd.backward(beside, retain_graph=True)
        chosen = Member(
            weights=self.supernet.slice(self.supernet.config.largest),
            query_PE=encoded_BLE.flatten(0, 1).index_select(0, places_P),
        )
        losses = self._head([chosen], targets_P, None, draws)
        self._update()
        return losses

    def begin_epoch(self, epoch: int) -> None:
        """Set the epoch's temperature."""
        self._tau = self._canet.tau(epoch)

    def identity(self) -> dict[str, Any]:
        """Return the method's hyper-parameters."""
        return self._canet.to_json()

    @torch.no_grad()
    def routed_ndcg(self, cases: EvalCases, *, exclude_seen: bool) -> float:
        """Return mean NDCG@10 of the cases, each ranked by the submodel of the largest logit."""
        most = self.supernet.config.max_length
        histories = [cases.histories[index] for index in range(len(cases))]
        lengths_U = np.array([min(len(history), most) for history in histories], dtype=np.int64)
        recent_UW = recent(histories)
        view_UC = features(self._view(recent_UW), lengths_U, most)
        places_U = RouterForward(self.router)(view_UC).argmax(1)
        ndcg_U = np.empty(len(cases))
        for place in np.unique(places_U):
            chosen = np.flatnonzero(places_U == place)
            ranker = Ranker(self.supernet, None, None, [self._served[place]])
            ranks = ranks_by_submodel(ranker, cases_at(cases, chosen), exclude_seen=exclude_seen)
            ndcg_U[chosen] = ndcg_at(ranks[:, 0], 10)
        return float(ndcg_U.mean())

    def _features(self, ids_BL: NDArray[np.int64]) -> Tensor:
        """Return features_BC float32 of whole inputs, from the table as it is now."""
        lengths_B = (ids_BL > 0).sum(1)
        recent_BW = newest(ids_BL, lengths_B, NEWEST)
        most = self.supernet.config.max_length
        return torch.from_numpy(features(self._view(recent_BW), lengths_B, most))

    @torch.no_grad()
    def _follow(self, features_BC: Tensor) -> None:
        """Let the router's standardisation follow the features, which move with the table."""
        mean_C, scale_C = self.router.feature_mean, self.router.feature_scale
        assert isinstance(mean_C, Tensor)
        assert isinstance(scale_C, Tensor)
        rate = max(_LEAST_RATE, 1 / (self.steps + 2))
        mean_C.lerp_(features_BC.mean(0), rate)
        variance_C = scale_C.square().lerp((features_BC - mean_C).square().mean(0), rate)
        scale_C.copy_(variance_C.sqrt().clamp(min=_LEAST_SCALE))

    def _dropout(self, tensor: Tensor) -> Tensor:
        return F.dropout(tensor, self.config.dropout)


def new_router(num_submodels: int, seed: int) -> Router:
    """Return a router that routes uniformly and can learn; equal for equal seeds."""
    generator = torch.Generator().manual_seed(seed)
    router = Router(features=ROUTER_FEATURES, hidden=HIDDEN, num_submodels=num_submodels)
    with torch.no_grad():
        torch.nn.init.normal_(router.hidden.weight, std=ROUTER_FEATURES**-0.5, generator=generator)
        router.hidden.bias.zero_()
        router.output.weight.zero_()
        router.output.bias.zero_()
    return router

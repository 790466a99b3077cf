"""The network as it is served and evaluated: extracted submodels, memory, router and costs.

Training evaluates and writes golden answers with this class, and the service answers with it,
so the network served is the network evaluated.
"""

# B batch, L length, E embedding width, V catalog rows with padding, W window, S served
# submodels, N length buckets

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from models.config import Submodel, SupernetConfig
from models.cost import (
    Cost,
    buckets,
    encoder_flops,
    full_cost,
    padded_length,
    router_flops,
    scoring_flops,
)
from models.memory import TransitionMemory, newest
from models.network import encode_last, score_all
from models.router import NEWEST, Router, choose, features, item_statistics
from models.submodel import extract
from models.supernet import Supernet


class Ranker:
    """Scores histories with any served submodel and picks submodels by the price of compute.

    `served` stands by rising cost and ends with the full network. Without a router (while it is
    being fitted) `quality` and `route` are not available and routing costs nothing.
    """

    def __init__(
        self,
        supernet: Supernet,
        memory: TransitionMemory | None,
        router: Router | None,
        served: Sequence[Submodel],
    ) -> None:
        self.config: SupernetConfig = supernet.config
        self.memory = memory
        self.served = tuple(served)
        self.router = router.eval() if router is not None else None
        tables: dict[int, Tensor] = {}
        self._weights = [extract(supernet, submodel, tables=tables) for submodel in self.served]
        self.table_VE = supernet.table.detach()
        self.statistics_VG = item_statistics(self.table_VE, memory)
        self._memory_flops = memory.flops() if memory is not None else 0
        self.buckets = buckets(self.config.max_length)
        self._router_flops = (
            router_flops(router.hidden.out_features, len(self.served)) if router is not None else 0
        )
        self._costs = {
            (place, length): Cost(
                router=0,
                encoder=encoder_flops(self.config, submodel, length),
                scoring=scoring_flops(self.config, submodel, self._memory_flops),
            )
            for place, submodel in enumerate(self.served)
            for length in self.buckets
        }
        full = self.full_cost(self.config.max_length).total
        self.cost_ratio_NS = torch.tensor(
            [
                [
                    (self._costs[place, length].total + self._router_flops) / full
                    for place in range(len(self.served))
                ]
                for length in self.buckets
            ]
        )

    def bucket(self, length: int) -> int:
        """Return the padded length of a history of `length` items, 1..max_length."""
        return padded_length(length, self.config.max_length)

    def cost(self, place: int, bucket: int, *, routed: bool) -> Cost:
        """Return what submodel `served[place]` spends on one history padded to `bucket`."""
        cost = self._costs[place, bucket]
        if not routed:
            return cost
        return Cost(router=self._router_flops, encoder=cost.encoder, scoring=cost.scoring)

    def full_cost(self, bucket: int) -> Cost:
        """Return what the full network alone spends on one history padded to `bucket`."""
        return full_cost(self.config, bucket, self._memory_flops)

    def quality(self, recent_BW: Tensor, lengths_B: Tensor) -> Tensor:
        """Return quality_BS: what the router expects of each served submodel, 0..1.

        `recent_BW` int64: the NEWEST newest items, newest first, padded with 0; `lengths_B`
        int64 counts the items the network reads, 1..max_length.
        """
        assert self.router is not None, "this ranker was built without a router"
        out: Tensor = self.router(self.features(recent_BW, lengths_B))
        return out

    def features(self, recent_BW: Tensor, lengths_B: Tensor) -> Tensor:
        """Return the router's features, (B, ROUTER_FEATURES) float32."""
        return features(self.statistics_VG, recent_BW, lengths_B, self.config.max_length)

    def cost_ratios(self, lengths_B: Tensor) -> Tensor:
        """Return cost_BS: total FLOPs, router charged, over the full network's at full length."""
        places = torch.bucketize(lengths_B, torch.tensor(self.buckets))
        return self.cost_ratio_NS[places]

    def route(
        self,
        recent_BW: Tensor,
        lengths_B: Tensor,
        price: float,
        allowed_BS: Tensor | None = None,
    ) -> Tensor:
        """Return the place in `served` of every history's submodel, (B,) int64; deterministic."""
        return choose(
            self.quality(recent_BW, lengths_B), self.cost_ratios(lengths_B), price, allowed_BS
        )

    def encode(self, place: int, item_ids_BL: Tensor, lengths_B: Tensor) -> Tensor:
        """Return query_BE of submodel `served[place]`; histories right-padded with 0, int64."""
        return encode_last(self._weights[place], item_ids_BL, lengths_B)

    def score(self, place: int, query_BE: Tensor, item_ids_BL: Tensor, lengths_B: Tensor) -> Tensor:
        """Return scores_BV float32 of every row, memory added; padding's row is -inf."""
        weights = self._weights[place]
        scores_BV = score_all(weights, query_BE)
        if self.memory is not None:
            recent_BW = newest(item_ids_BL, lengths_B, self.memory.config.window)
            self.memory.add_to(scores_BV, recent_BW, weights.memory_gain.expand(len(query_BE)))
        return scores_BV

    @property
    def body_bytes(self) -> int:
        """Bytes of the extracted bodies, all submodels together."""
        return sum(weights.body_bytes() for weights in self._weights)


def stack(histories: Sequence[Sequence[int]], length: int) -> tuple[Tensor, Tensor]:
    """Return (item_ids_BL, lengths_B) int64 of the newest `length` items of each, right-padded."""
    cut = [list(history[-length:]) for history in histories]
    rows = [items + [0] * (length - len(items)) for items in cut]
    return (
        torch.tensor(rows, dtype=torch.int64).view(len(cut), length),
        torch.tensor([len(items) for items in cut], dtype=torch.int64),
    )


def recent(histories: Sequence[Sequence[int]], window: int = NEWEST) -> Tensor:
    """Return the newest `window` items of each history, newest first, 0 where there are fewer."""
    rows = []
    for history in histories:
        items = list(history[-window:])[::-1]
        rows.append(items + [0] * (window - len(items)))
    return torch.tensor(rows, dtype=torch.int64).view(len(histories), window)


def load_ranker(
    config: SupernetConfig,
    tensors: Mapping[str, Tensor],
    served: Sequence[Submodel],
    *,
    router_hidden: int,
) -> Ranker:
    """Build the ranker of a checkpoint's verified tensors (`supernet.*`, `router.*`, `memory.*`).

    The tensors are adopted, not copied: the tables exist once.
    """
    with torch.device("meta"):
        supernet = Supernet(config)
    supernet.load_state_dict(_part(tensors, "supernet."), assign=True)
    part = _part(tensors, "router.")
    with torch.device("meta"):
        router = Router(
            features=len(part["feature_mean"]), hidden=router_hidden, num_submodels=len(served)
        )
    router.load_state_dict(part, assign=True)
    memory = None
    if config.memory is not None:
        memory = TransitionMemory(
            config=config.memory,
            offsets=tensors["memory.offsets"],
            items=tensors["memory.items"],
            weights=tensors["memory.weights"],
        )
    return Ranker(supernet, memory, router, served)


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }

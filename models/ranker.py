"""The network as it is served and evaluated: extracted submodels, memory, router and costs.

Training evaluates and writes golden answers with this class, and the service answers with it,
so the network served is the network evaluated.
"""

# B batch, L length, E embedding width, V catalog rows with padding, W window, S served
# submodels, N length buckets

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from models.arrays import Floats, Ids
from models.backbone.registry import backbone_of
from models.config import Submodel, SupernetConfig
from models.cost import (
    Cost,
    encoder_flops,
    full_cost,
    router_flops,
    scoring_flops,
)
from models.density import density
from models.histories import Histories, History
from models.lengths import buckets, check_length, padded_length
from models.memory import TransitionMemory
from models.memory_lookup import Additions, MemoryLookup, newest
from models.onnx_body import checked_body
from models.product import Product, make_product
from models.router import NEWEST, Router, RouterForward, choose_places
from models.router_view import RouterView
from models.search.search import INDEX_FROM_ROWS
from models.submodel import extract
from models.supernet import Supernet
from models.table.lookup import RowLookup
from models.table.table import ItemTable


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
        self.table = supernet.item_table.detach()
        # Views: what a small catalog is scored by has a packed copy of its own.
        tables = {one.emb_width: self.table.slice(one.emb_width) for one in self.served}
        # Submodels that differ in what they read alone share everything else.
        slices = {one.slice: extract(supernet, one.slice, tables=tables) for one in self.served}
        bodies = {one: checked_body(weights) for one, weights in slices.items()}
        self._weights = [slices[one.slice] for one in self.served]
        self._bodies = [bodies[one.slice] for one in self.served]
        self.density = density(supernet)
        self.body_bytes = sum(weights.body_bytes() for weights in slices.values())
        """Bytes of the extracted bodies, all submodels together."""
        self.tokens = {
            weights.submodel.emb_width: weights.tokens
            for weights in self._weights
            if weights.tokens is not None
        }
        """The tail blocks' tokens by embedding width; empty without a two-level head."""
        for one in self.served:
            check_length(one, self.config.max_length)
        self._positions: list[Floats] = [
            np.empty((0, one.emb_width), dtype=np.float32)
            if weights.positions_LE is None
            else weights.positions_LE.numpy()
            for one, weights in zip(self.served, self._weights, strict=True)
        ]
        window = backbone_of(self.config).window
        most = self.config.max_length
        self._reads = [min(one.reads(most), window(self.config, one)) for one in self.served]
        self.gains_S = np.array([float(weights.memory_gain) for weights in self._weights], "f4")
        self._look_up = RowLookup(self.table)
        self.item_bias_V = self._weights[-1].item_bias_V
        self._products = self._make_products()
        self._lookup = MemoryLookup(memory) if memory is not None else None
        self._view = RouterView(
            self.table, memory, router, max_length=most, live=self.config.table is not None
        )
        self._router_forward = RouterForward(router) if router is not None else None
        self._remembers_S = np.array([min(one.reads(most), self.window) for one in self.served])
        remembering = [
            memory.flops(one.reads(most)) if memory is not None else 0 for one in self.served
        ]
        self._memory_flops = remembering[-1]
        self.buckets = buckets(self.config.max_length)
        self._router_flops = 0
        if router is not None:
            sizes = (router.hidden.in_features, router.hidden.out_features, len(self.served))
            self._router_flops = router_flops(*sizes, self._view.memory_flops)
        layers = [weights.layers for weights in self._weights]
        self._full_layers = layers[-1]
        self._costs = {
            (place, length): Cost(
                router=0,
                encoder=encoder_flops(self.config, submodel, length, layers[place]),
                scoring=scoring_flops(self.config, submodel, remembering[place]),
            )
            for place, submodel in enumerate(self.served)
            for length in self.buckets
        }
        full = self.full_cost(self.config.max_length).total
        self._cost_ratio_LS = np.array(
            [
                [
                    (self._costs[place, self.bucket(length)].total + self._router_flops) / full
                    for place in range(len(self.served))
                ]
                for length in (1, *range(1, self.config.max_length + 1))
            ],
            dtype=np.float32,
        )
        """Row n is of histories of n items; there are none of 0."""

    def with_table(self, table: ItemTable, item_bias_V: Tensor) -> Ranker:
        """Return a ranker with the same bodies over another table of as many rows and columns.

        For measuring: its costs and the router's view of the items stay those of the own table.
        """
        other = copy.copy(self)
        other.table = table.detach().contiguous()
        other._look_up = RowLookup(other.table)
        other.item_bias_V = item_bias_V.detach()
        other._products = other._make_products()
        return other

    def bucket(self, length: int) -> int:
        """Return the padded length of a history of `length` items, 1..max_length."""
        return padded_length(length, self.config.max_length)

    def cost(self, place: int, bucket: int, *, routed: bool) -> Cost:
        """Return what submodel `served[place]` spends on one history padded to `bucket`."""
        cost = self._costs[place, bucket]
        if not routed:
            return cost
        return Cost(router=self._router_flops, encoder=cost.encoder, scoring=cost.scoring)

    def body_bytes_of(self, place: int) -> int:
        """Return the bytes that `served[place]` reads beside the tables, as extracted."""
        return self._weights[place].body_bytes()

    def full_cost(self, bucket: int) -> Cost:
        """Return what the full network alone spends on one history padded to `bucket`."""
        return full_cost(self.config, bucket, self._memory_flops, self._full_layers)

    def features(self, recent_BW: Ids, lengths_B: Ids) -> Floats:
        """Return the router's features, (B, C) float32: see `RouterView`."""
        return self._view(recent_BW, lengths_B)

    def quality(self, recent_BW: Ids, lengths_B: Ids) -> Floats:
        """Return quality_BS float32: what the router expects of each served submodel, 0..1."""
        assert self._router_forward is not None, "this ranker was built without a router"
        return self._router_forward(self.features(recent_BW, lengths_B))

    def cost_ratios(self, lengths_B: Ids | Tensor) -> Floats:
        """Return cost_BS: total FLOPs, router charged, over the full network's at full length."""
        return self._cost_ratio_LS[lengths_B]

    def route(self, recent_BW: Ids, lengths_B: Ids, price: float) -> Ids:
        """Return the place in `served` of every history's submodel, (B,) int64; deterministic."""
        return choose_places(self.quality(recent_BW, lengths_B), self.cost_ratios(lengths_B), price)

    def encode(self, place: int, item_ids_BL: Ids, lengths_B: Ids) -> Floats:
        """Return query_BE of submodel `served[place]`; histories right-padded with 0, int64.

        Of longer ones it reads the newest that it reads at all.
        """
        reads = min(self._reads[place], item_ids_BL.shape[1])
        if reads < item_ids_BL.shape[1]:
            item_ids_BL, lengths_B = cut(item_ids_BL, lengths_B, reads)
        embedded_BLE = self._look_up.embed(item_ids_BL, self._positions[place])
        return self._bodies[place](embedded_BLE, lengths_B)

    def scores(self, query_BE: Floats, gains_B: Floats, recent_BW: Ids) -> Floats:
        """Return scores_BV float32 of every row, memory added; padding's row is -inf.

        Queries may come from any submodels of one embedding width, each with its gain; `recent_BW`
        int64 is what the memory reads, newest item first, 0 where there are fewer: `remembered`.
        """
        scores_BV = self._products[query_BE.shape[1]](query_BE)
        if self._lookup is not None:
            self._lookup.add_to(scores_BV, recent_BW, gains_B)
        scores_BV[:, 0] = -np.inf
        return scores_BV

    def additions(self, recent_BW: Ids, gains_B: Floats) -> list[Additions]:
        """Return what the memory adds to each history's scores; see `scores`.

        Only for a ranker with a memory, that is with a `window`.
        """
        assert self._lookup is not None, "this ranker has no memory"
        return self._lookup.additions(recent_BW, gains_B)

    def score(self, place: int, query_BE: Floats, item_ids_BL: Ids, lengths_B: Ids) -> Tensor:
        """Return scores_BV float32 of every row, memory added; padding's row is -inf."""
        gains_B = np.full(len(query_BE), self.gains_S[place], dtype=np.float32)
        recent_BW = newest(item_ids_BL, lengths_B, self.remembers(place))
        return torch.from_numpy(self.scores(query_BE, gains_B, recent_BW))

    def remembers(self, place: int) -> int:
        """Return how many of the newest items the memory reads for `served[place]`.

        Its window, or what the submodel reads if that is less; 0 without a memory.
        """
        return int(self._remembers_S[place])

    def remembered(self, recent_BW: Ids, places_B: Sequence[int]) -> Ids:
        """Return what the memory reads of each history for the submodel at its place.

        Of `recent_BW`, int64, newest item first, the memory's window; 0 where less is read.
        """
        recent_BW = recent_BW[:, : self.window]
        if self._remembers_S.min() == self.window:
            return recent_BW
        reads_B1 = self._remembers_S[list(places_B)][:, None]
        return np.where(np.arange(self.window) < reads_B1, recent_BW, 0)

    def _make_products(self) -> dict[int, Product]:
        """Return the product of every served width; large tables and small-made ones stay alone."""
        packed = len(self.table) < INDEX_FROM_ROWS and self.config.table is None
        widths = {one.emb_width for one in self.served}
        return {
            width: make_product(
                self.table.slice(width), self.item_bias_V, self.tokens.get(width), packed=packed
            )
            for width in widths
        }

    @property
    def window(self) -> int:
        """How many of the newest items the memory reads; 0 without one."""
        return self._lookup.window if self._lookup is not None else 0


def cut(item_ids_BL: Ids, lengths_B: Ids, length: int) -> tuple[Ids, Ids]:
    """Return (item_ids_BL, lengths_B) of the newest `length` items; right-padded, as before."""
    first_B1 = np.maximum(lengths_B - length, 0)[:, None]
    newest_BL = np.take_along_axis(item_ids_BL, first_B1 + np.arange(length), axis=1)
    return newest_BL, np.minimum(lengths_B, length)


def stack(histories: Sequence[History], length: int) -> tuple[Ids, Ids]:
    """Return (item_ids_BL, lengths_B) int64 of the newest `length` items of each, right-padded."""
    return Histories(histories).stack(length)


def recent(histories: Sequence[History], window: int = NEWEST) -> Ids:
    """Return the newest `window` items of each history, newest first, 0 where there are fewer."""
    return Histories(histories).newest(window)


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

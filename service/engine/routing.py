"""Which submodel answers which query: fixed, full, or the router's choice within its bounds."""

# B batch, S served submodels

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from models.arrays import Ids
from models.ranker import Ranker
from models.router import NEWEST, choose_places
from service.engine.contract import Price
from service.engine.prepared import Prepared


class Dispatcher:
    """Gives queries their submodels; a batch passes the router once.

    `places` maps a served submodel's name to its place, by rising cost; `price` is what routing
    pays unless told otherwise; the router may choose from `routed`, narrowed by `allowed`.
    """

    def __init__(
        self,
        ranker: Ranker,
        places: Mapping[str, int],
        *,
        price: float,
        routed: Sequence[str],
        allowed: Sequence[str] | None,
    ) -> None:
        self._ranker = ranker
        self._places = places
        self._price = price
        names = set(routed)
        if allowed is not None:
            unknown = sorted(set(allowed) - set(places))
            if unknown:
                raise ValueError(f"submodels {unknown} are not served; served are {sorted(places)}")
            names &= set(allowed)
        if not names:
            raise ValueError("the allow-list leaves the router no submodel")
        routable_S = np.array([name in names for name in places])
        self._routable_S = None if routable_S.all() else routable_S
        self._full = {bucket: ranker.full_cost(bucket).total for bucket in ranker.buckets}

    def dispatch(self, known: Sequence[Prepared], recent_BW: Ids, price: Price) -> None:
        """Set bucket, place and reason of every query; each has a history.

        `recent_BW` int64: at least the NEWEST newest items of each, newest first, padded with 0.
        """
        routed: list[int] = []
        for index, one in enumerate(known):
            one.bucket = self._ranker.bucket(one.length)
            compute = one.query.compute
            wanted = compute.submodel
            if compute.mode == "full":
                one.place, one.reason = len(self._places) - 1, "full"
            elif compute.mode == "fixed" and wanted is not None and wanted in self._places:
                one.place, one.reason = self._places[wanted], "fixed"
            else:
                routed.append(index)
        if routed:
            recent_BW = recent_BW[:, :NEWEST]
            if len(routed) < len(known):
                recent_BW = recent_BW[routed]
            self._route([known[index] for index in routed], recent_BW, price)

    def _route(self, routed: Sequence[Prepared], recent_BW: Ids, price: Price) -> None:
        lengths_B = np.array([one.length for one in routed], dtype=np.int64)
        quality_BS = self._ranker.quality(recent_BW, lengths_B)
        cost_BS = self._ranker.cost_ratios(lengths_B)
        allowed_BS = None
        if self._routable_S is not None:
            allowed_BS = np.broadcast_to(self._routable_S, quality_BS.shape)
        base = self._price if price.base is None else price.base
        free_B = chosen_B = choose_places(quality_BS, cost_BS, base, allowed_BS)
        bounded = [one.query.compute.max_ratio for one in routed]
        if any(bound is not None for bound in bounded):
            full_B = np.array([self._full[one.bucket] for one in routed], dtype=np.float64)
            bound_B = np.array([np.inf if bound is None else bound for bound in bounded])
            full_at_most = self._full[self._ranker.config.max_length]
            within_BS = cost_BS * full_at_most <= (bound_B * full_B * (1 + 1e-6))[:, None]
            allowed_BS = within_BS if allowed_BS is None else allowed_BS & within_BS
            chosen_B = choose_places(quality_BS, cost_BS, base, allowed_BS)
        for one, place, freely in zip(routed, chosen_B.tolist(), free_B.tolist(), strict=True):
            one.place = place
            one.reason = "router" if place == freely else "max_ratio"
        if price.surcharge > 0:
            dear_B = choose_places(quality_BS, cost_BS, base + price.surcharge, allowed_BS)
            for one, place in zip(routed, dear_B.tolist(), strict=True):
                if place != one.place:
                    one.place, one.reason = place, "overload"

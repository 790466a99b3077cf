"""What the router gives at several prices, beside blind dealing and hindsight of equal cost."""

# U cases, S submodels

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from training.evaluate.bootstrap import interval
from training.evaluate.routing_baselines import oracle_at_cost, random_routing, routed

Floats = NDArray[np.float64]

# Ends included: enough to draw the frontier, few enough for a table.
_PRICES = 6


class CurvePoint(Protocol):
    """A point of a price curve, as the checkpoint stores it or as training made it."""

    @property
    def price(self) -> float:
        """The price of compute."""

    @property
    def flops_ratio(self) -> float:
        """Average cost over the full network's."""

    @property
    def ndcg_10(self) -> float:
        """Mean NDCG@10 on validation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """The router at one price, measured on the cases of the table.

    flops_ratio: average cost, router charged, over always-full's. ndcg: mean NDCG@10 with its
    95 % interval over users, low to high; random_*: the same mix of submodels dealt out blindly.
    oracle: no routing of this cost has a higher mean NDCG@10 on these cases. mix: submodel name
    to its share of the cases.
    """

    price: float
    flops_ratio: float
    ndcg: float
    low: float
    high: float
    random: float
    random_low: float
    random_high: float
    oracle: float
    mix: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, by the keys that docs/evaluation.md lists."""
        return {
            "price": self.price,
            "flops_ratio": self.flops_ratio,
            "ndcg@10": self.ndcg,
            "low": self.low,
            "high": self.high,
            "random_ndcg@10": self.random,
            "random_low": self.random_low,
            "random_high": self.random_high,
            "oracle_ndcg@10": self.oracle,
            "mix": dict(self.mix),
        }


def spread_prices(curve: Sequence[CurvePoint]) -> tuple[float, ...]:
    """Return about six ascending prices of the curve, its ends among them, costs spread by ratio.

    Fewer where the curve has fewer points or its costs lie close; none for an empty curve.
    """
    if not curve:
        return ()
    points = sorted(curve, key=lambda point: point.price)
    costs = np.log([max(point.flops_ratio, 1e-12) for point in points])
    wanted = np.linspace(costs[0], costs[-1], _PRICES)
    nearest = {int(np.abs(costs - cost).argmin()) for cost in wanted[1:-1]}
    return tuple(points[place].price for place in sorted(nearest | {0, len(points) - 1}))


def price_point(
    price: float,
    choice_U: NDArray[np.int64],
    *,
    names: Sequence[str],
    ndcg_US: Floats,
    routed_cost_US: Floats,
    alone_cost_US: Floats,
    full_cost: float,
    seed: int,
) -> Price:
    """Return what `choice_U`, the router's places at `price`, is worth.

    Args:
        price: as given to the router.
        choice_U: (U,) int64 places in `names`.
        names: of the submodels.
        ndcg_US: (U, S) NDCG@10 of every submodel.
        routed_cost_US: (U, S) FLOPs with the router; what routing pays.
        alone_cost_US: (U, S) FLOPs without; what hindsight pays, which needs no router.
        full_cost: average FLOPs of the full network alone.
        seed: of the bootstrap.
    """
    outcome = routed(ndcg_US, routed_cost_US, choice_U)
    blind = random_routing(ndcg_US, routed_cost_US, choice_U)
    here, dealt = interval(outcome.quality, seed=seed), interval(blind.quality, seed=seed)
    shares = np.bincount(choice_U, minlength=len(names)) / len(choice_U)
    return Price(
        price=price,
        flops_ratio=outcome.cost / full_cost,
        ndcg=here.mean,
        low=here.low,
        high=here.high,
        random=dealt.mean,
        random_low=dealt.low,
        random_high=dealt.high,
        oracle=oracle_bound(ndcg_US, alone_cost_US, cost=outcome.cost),
        mix={name: float(share) for name, share in zip(names, shares, strict=True)},
    )


def oracle_bound(ndcg_US: Floats, alone_cost_US: Floats, *, cost: float) -> float:
    """Return a mean NDCG@10 that no choice of average cost `cost` exceeds on these cases.

    A cost below the cheapest submodels' is read as theirs.
    """
    least = float(alone_cost_US.min(axis=1).mean())
    return oracle_at_cost(ndcg_US, alone_cost_US, budget=max(cost, least)).bound

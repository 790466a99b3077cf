"""The price curve: what each price of compute buys, on users the router did not see."""

# U users, S submodels

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.evaluate.routing_baselines import (
    choose,
    price_for_budget,
    price_frontier,
    routed,
)

Floats = NDArray[np.float64]

# Enough that the price of any budget can be read off between two of them.
POINTS = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontierPoint:
    """One price. `flops_ratio` is total FLOPs, router charged, over always-full's total.

    `error` is the standard error of its NDCG@10 less the full network's, over paired users.
    """

    price: float
    flops_ratio: float
    ndcg_10: float
    error: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What held-out users showed: predictions (U, S), NDCG@10 (U, S), and FLOPs.

    `cost_US` charges the router, `full_U` is the full network alone at the same length, and
    `unit` the full network at full length: prices are per `unit`.
    """

    quality_US: Floats
    ndcg_US: Floats
    cost_US: Floats
    full_U: Floats
    unit: float

    def prices(self) -> Floats:
        """Return ascending prices whose costs spread evenly, by ratio, over what can be had.

        From 0, the best predicted quality at any cost, to where everybody gets the cheapest. A
        price is quality (0..1) per full network at full length.
        """
        cost_US = self.cost_US / self.unit
        most = routed(self.ndcg_US, cost_US, choose(self.quality_US, cost_US, 0.0)).cost
        least = float(cost_US.min(1).mean())
        budgets = np.geomspace(least, max(most, least), POINTS)[1:-1]
        found = [price_for_budget(self.quality_US, cost_US, budget=float(b)) for b in budgets]
        return np.unique([0.0, *found, self.highest_price()])

    def highest_price(self) -> float:
        """Return the least price at which everybody gets the cheapest submodel."""
        cost_US = self.cost_US / self.unit
        least = float(cost_US.min(1).mean())
        return price_for_budget(self.quality_US, cost_US, budget=least * (1 + 1e-12))

    def frontier(self, prices: Floats | None = None) -> list[FrontierPoint]:
        """Return one point per price, ascending; the cost never rises with the price."""
        prices = np.sort(self.prices() if prices is None else prices)
        points = price_frontier(self.quality_US, self.ndcg_US, self.cost_US / self.unit, prices)
        return [
            FrontierPoint(
                price=point.price,
                flops_ratio=point.cost * self.unit / float(self.full_U.mean()),
                ndcg_10=point.quality,
                error=self._error(point.price),
            )
            for point in points
        ]

    def _error(self, price: float) -> float:
        cost_US = self.cost_US / self.unit
        found = routed(self.ndcg_US, cost_US, choose(self.quality_US, cost_US, price))
        ahead_U = found.quality - self.ndcg_US[:, -1]
        return float(ahead_U.std() / np.sqrt(len(ahead_U)))

    def price_for_budget(self, budget: float) -> float:
        """Return the least price whose total cost is at most `budget` times always-full's.

        ValueError when even the cheapest submodels cost more; the message names the least.
        """
        least = float(self.cost_US.min(1).mean() / self.full_U.mean())
        if not budget >= least:
            raise ValueError(
                f"a budget of {budget:g} of the full network cannot be met: the cheapest "
                f"submodels cost {least:.4f}; raise the budget"
            )
        mean = budget * float(self.full_U.mean()) / self.unit
        return price_for_budget(self.quality_US, self.cost_US / self.unit, budget=mean)


def price_for_quality(
    points: Sequence[FrontierPoint], full_ndcg: float, *, tolerance: float
) -> float:
    """Return the price of the cheapest point that is as good as full, else of the best point.

    As good: short of `full_ndcg` by no more than the share `tolerance` or by one standard error,
    whichever is more. Fewer users cannot tell more apart.
    """
    good = [
        point
        for point in points
        if point.ndcg_10 >= full_ndcg - max(tolerance * full_ndcg, point.error)
    ]
    if good:
        return min(good, key=lambda point: (point.flops_ratio, point.price)).price
    return max(points, key=lambda point: (point.ndcg_10, point.price)).price

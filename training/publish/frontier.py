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
class Asked:
    """Histories that are asked about, with nothing known of what followed them.

    Predictions (N, S), FLOPs (N, S) with the router charged, and the full network's alone (N,).
    """

    quality_NS: Floats
    cost_NS: Floats
    full_N: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What held-out users showed: predictions (U, S), NDCG@10 (U, S), and FLOPs.

    `cost_US` charges the router, `full_U` is the full network alone at the same length, and
    `unit` the full network at full length: prices are per `unit`. What a price costs is read from
    `asked`, what it buys from the users themselves; without `asked` both are.
    """

    quality_US: Floats
    ndcg_US: Floats
    cost_US: Floats
    full_U: Floats
    unit: float
    asked: Asked | None = None

    @property
    def _asked(self) -> Asked:
        return self.asked or Asked(
            quality_NS=self.quality_US, cost_NS=self.cost_US, full_N=self.full_U
        )

    def prices(self) -> Floats:
        """Return ascending prices whose costs spread evenly, by ratio, over what can be had.

        From 0, the best predicted quality at any cost, to where everybody gets the cheapest. A
        price is quality (0..1) per full network at full length.
        """
        quality_NS, cost_NS = self._asked.quality_NS, self._asked.cost_NS / self.unit
        most = _spent(quality_NS, cost_NS, 0.0)
        least = float(cost_NS.min(1).mean())
        budgets = np.geomspace(least, max(most, least), POINTS)[1:-1]
        found = [price_for_budget(quality_NS, cost_NS, budget=float(b)) for b in budgets]
        return np.unique([0.0, *found, self.highest_price()])

    def highest_price(self) -> float:
        """Return the least price at which everybody gets the cheapest submodel."""
        asked = self._asked
        return max(
            self._all_cheapest(self.quality_US, self.cost_US),
            self._all_cheapest(asked.quality_NS, asked.cost_NS),
        )

    def _all_cheapest(self, quality: Floats, cost: Floats) -> float:
        cost = cost / self.unit
        return price_for_budget(quality, cost, budget=float(cost.min(1).mean()) * (1 + 1e-12))

    def frontier(self, prices: Floats | None = None) -> list[FrontierPoint]:
        """Return one point per price, ascending; the cost never rises with the price."""
        prices = np.sort(self.prices() if prices is None else prices)
        points = price_frontier(self.quality_US, self.ndcg_US, self.cost_US / self.unit, prices)
        return [
            FrontierPoint(
                price=point.price,
                flops_ratio=self._flops_ratio(point.price),
                ndcg_10=point.quality,
                error=self._error(point.price),
            )
            for point in points
        ]

    def _flops_ratio(self, price: float) -> float:
        asked = self._asked
        spent = _spent(asked.quality_NS, asked.cost_NS / self.unit, price)
        return spent * self.unit / float(asked.full_N.mean())

    def _error(self, price: float) -> float:
        cost_US = self.cost_US / self.unit
        found = routed(self.ndcg_US, cost_US, choose(self.quality_US, cost_US, price))
        ahead_U = found.quality - self.ndcg_US[:, -1]
        return float(ahead_U.std() / np.sqrt(len(ahead_U)))

    def price_for_budget(self, budget: float) -> float:
        """Return the least price whose total cost is at most `budget` times always-full's.

        ValueError when even the cheapest submodels cost more; the message names the least.
        """
        asked = self._asked
        full = float(asked.full_N.mean())
        least = float(asked.cost_NS.min(1).mean() / full)
        if not budget >= least:
            raise ValueError(
                f"a budget of {budget:g} of the full network cannot be met: the cheapest "
                f"submodels cost {least:.4f}; raise the budget"
            )
        return price_for_budget(
            asked.quality_NS, asked.cost_NS / self.unit, budget=budget * full / self.unit
        )


def _spent(quality_NS: Floats, cost_NS: Floats, price: float) -> float:
    """Return the mean cost of what is chosen at the price."""
    return routed(quality_NS, cost_NS, choose(quality_NS, cost_NS, price)).cost


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

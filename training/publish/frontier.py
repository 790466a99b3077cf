"""The price curve: what each price of compute buys, on users the router did not see."""

# U users, S submodels

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.router import choose

# A price is quality (0..1) per full network at full length, so these span every trade.
PRICES = (0.0, *(float(price) for price in np.geomspace(1e-5, 3.0, 40)))


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontierPoint:
    """One price. `flops_ratio` is total FLOPs, router charged, over always-full's total."""

    price: float
    flops_ratio: float
    ndcg_10: float


def frontier(
    quality_US: Tensor,
    cost_ratio_US: Tensor,
    cost_US: NDArray[np.float64],
    full_U: NDArray[np.float64],
    ndcg_US: NDArray[np.float64],
    *,
    prices: tuple[float, ...] = PRICES,
) -> list[FrontierPoint]:
    """Return one point per price, ascending; the cost never rises with the price.

    `quality_US` are out-of-fold predictions, `cost_ratio_US` what the router weighs (relative to
    the full network at full length), `cost_US` and `full_U` FLOPs, `ndcg_US` observed.
    """
    rows = np.arange(len(full_U))
    points = []
    for price in prices:
        chosen = choose(quality_US, cost_ratio_US, price).numpy()
        points.append(
            FrontierPoint(
                price=price,
                flops_ratio=float(cost_US[rows, chosen].sum() / full_U.sum()),
                ndcg_10=float(ndcg_US[rows, chosen].mean()),
            )
        )
    return points


def price_for_quality(points: list[FrontierPoint], least_ndcg: float) -> float:
    """Return the price of the cheapest point that reaches `least_ndcg`, else of the best point."""
    good = [point for point in points if point.ndcg_10 >= least_ndcg]
    if good:
        return min(good, key=lambda point: (point.flops_ratio, point.price)).price
    return max(points, key=lambda point: (point.ndcg_10, point.price)).price


def price_for_budget(
    quality_US: Tensor,
    cost_ratio_US: Tensor,
    cost_US: NDArray[np.float64],
    full_U: NDArray[np.float64],
    budget: float,
) -> float:
    """Return the least price whose total cost is at most `budget` times always-full's.

    ValueError when even the cheapest submodel costs more; the message names the least budget.
    """
    rows = np.arange(len(full_U))

    def ratio(price: float) -> float:
        chosen = choose(quality_US, cost_ratio_US, price).numpy()
        return float(cost_US[rows, chosen].sum() / full_U.sum())

    low, high = 0.0, 1e6
    if ratio(low) <= budget:
        return low
    least = ratio(high)
    if least > budget:
        raise ValueError(
            f"a budget of {budget:.3f} of the full network cannot be met: the cheapest submodel "
            f"costs {least:.3f}; raise the budget"
        )
    for _ in range(80):
        middle = (low * high) ** 0.5 if low > 0 else high / 1e3
        if middle <= 1e-9:
            break
        if ratio(middle) <= budget:
            high = middle
        else:
            low = middle
        if low > 0 and high / low < 1 + 1e-6:
            break
    return float(torch.tensor(high, dtype=torch.float64))

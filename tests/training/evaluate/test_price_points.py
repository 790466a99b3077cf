"""Prices are spread over the curve's costs; what each buys is worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from models.checkpoint.manifest import PricePoint
from training.evaluate.price_points import oracle_bound, price_point, spread_prices


def curve(*points: tuple[float, float]) -> list[PricePoint]:
    return [PricePoint(price=p, flops_ratio=f, ndcg_10=0.1) for p, f in points]


def test_prices_keep_the_ends_and_spread_the_costs_by_ratio() -> None:
    fine = curve(*((place / 100, 0.9 * 0.95**place) for place in range(60)))
    prices = spread_prices(fine[::-1])
    assert len(prices) == 6
    assert (prices[0], prices[-1]) == (0.0, 0.59)
    assert np.diff(prices) == pytest.approx(0.118, abs=0.011)


def test_a_short_curve_gives_what_it_has() -> None:
    assert spread_prices([]) == ()
    assert spread_prices(curve((0.0, 0.5))) == (0.0,)
    assert spread_prices(curve((0.0, 0.5), (0.1, 0.5))) == (0.0, 0.1)


def test_one_price_by_hand() -> None:
    ndcg_US = np.array([[0.0, 1.0], [1.0, 1.0], [0.5, 0.0], [0.0, 0.0]])
    point = price_point(
        0.3,
        np.array([1, 0, 0, 0]),
        names=("small", "large"),
        ndcg_US=ndcg_US,
        routed_cost_US=np.tile([15.0, 105.0], (4, 1)),
        alone_cost_US=np.tile([10.0, 100.0], (4, 1)),
        full_cost=100.0,
        seed=0,
    )
    assert point.price == 0.3
    assert point.flops_ratio == pytest.approx((15 * 3 + 105) / 4 / 100)
    assert point.ndcg == pytest.approx(2.5 / 4)
    assert point.low <= point.ndcg <= point.high
    # Three quarters small and one quarter large, whoever comes.
    assert point.random == pytest.approx(0.75 * 1.5 / 4 + 0.25 * 2.0 / 4)
    assert point.mix == {"small": 0.75, "large": 0.25}
    # Hindsight buys the first user's gain of 1 for 90; the rest of the budget buys at that rate.
    assert point.ndcg <= point.oracle <= 2.5 / 4 + (37.5 - 32.5) / 90 + 1e-9


def test_less_than_the_cheapest_is_read_as_the_cheapest() -> None:
    ndcg_US, costs = np.array([[0.2, 0.9]]), np.array([[10.0, 100.0]])
    assert oracle_bound(ndcg_US, costs, cost=1.0) == pytest.approx(0.2)

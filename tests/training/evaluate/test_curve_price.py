"""A budget's price is read between the points of the stored curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest

from models.checkpoint.contents import Checkpoint
from models.checkpoint.manifest import PricePoint
from training.evaluate.from_checkpoint import curve_price


@dataclass
class Router:
    price_curve: tuple[PricePoint, ...]


@dataclass
class Manifest:
    router: Router


@dataclass
class Stored:
    manifest: Manifest


def stored(*points: tuple[float, float]) -> Checkpoint:
    curve = tuple(PricePoint(price=p, flops_ratio=f, ndcg_10=0.1) for p, f in points)
    found: Any = Stored(Manifest(Router(curve)))
    return cast(Checkpoint, found)


CURVE = stored((0.0, 0.8), (0.1, 0.4), (0.3, 0.1))


@pytest.mark.parametrize(
    ("budget", "price"), [(0.4, 0.1), (0.1, 0.3), (0.8, 0.0), (1.0, 0.0), (0.2, 0.2)]
)
def test_points_are_met_and_what_lies_between_is_interpolated(budget: float, price: float) -> None:
    assert curve_price(CURVE, budget) == pytest.approx(price)


def test_less_than_the_least_is_refused_and_the_least_named() -> None:
    with pytest.raises(ValueError, match=r"0\.05 is below the least, 0\.1000; raise it"):
        curve_price(CURVE, 0.05)


def test_without_a_curve_a_price_is_asked_for() -> None:
    with pytest.raises(ValueError, match="no price curve; give --price"):
        curve_price(stored(), 0.5)

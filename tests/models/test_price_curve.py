"""What a price is expected to spend: the points, and straight lines in the logarithm between."""

from __future__ import annotations

import pytest

from models.price_curve import CurvePoint, share_at

CURVE = tuple(CurvePoint(*point) for point in ((0.0, 0.8), (0.1, 0.4), (0.3, 0.1)))


@pytest.mark.parametrize(
    ("price", "share"),
    [(0.0, 0.8), (0.1, 0.4), (0.3, 0.1), (0.05, 0.32**0.5), (0.2, 0.2), (-1.0, 0.8), (9.0, 0.1)],
)
def test_points_are_met_and_what_lies_between_is_interpolated(price: float, share: float) -> None:
    assert share_at(CURVE, price) == pytest.approx(share)


def test_without_points_nothing_is_expected() -> None:
    assert share_at((), 0.1) is None


def test_one_point_holds_everywhere_and_a_share_of_0_has_no_logarithm() -> None:
    assert share_at(CURVE[:1], 0.7) == 0.8
    assert share_at((*CURVE, CurvePoint(0.5, 0.0)), 0.4) == 0.0


def test_equal_prices_are_no_division_by_0() -> None:
    twice = (CurvePoint(0.1, 0.5), CurvePoint(0.1, 0.4), CurvePoint(0.2, 0.3))
    assert share_at(twice, 0.1) == 0.5
    assert share_at(twice, 0.15) == pytest.approx(0.12**0.5)

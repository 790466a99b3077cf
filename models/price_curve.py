"""The price curve of a checkpoint: what each price of compute was seen to spend."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from math import exp, log
from typing import NamedTuple


class CurvePoint(NamedTuple):
    """One price of compute, and the share of always-full's FLOPs that it spends."""

    price: float
    share: float


def share_at(curve: Sequence[CurvePoint], price: float) -> float | None:
    """Return the share of the full network's FLOPs that `price` is expected to spend.

    `curve` is sorted by price. Between two points the logarithm of the share is a straight line;
    beyond the ends the share is that of the end. None without points.
    """
    if not curve:
        return None
    after = bisect_left(curve, price, key=lambda point: point.price)
    if after == 0:
        return curve[0].share
    if after == len(curve):
        return curve[-1].share
    low, high = curve[after - 1], curve[after]
    if low.share <= 0 or high.share <= 0:
        return high.share
    way = (price - low.price) / (high.price - low.price)
    return exp((1 - way) * log(low.share) + way * log(high.share))

"""The price of compute, what it is expected to spend and why, and who was turned away."""

from __future__ import annotations

import math
from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from models.price_curve import CurvePoint, share_at
from service.metrics.labels import PRICE_REASONS, REFUSALS
from service.metrics.makers import Makers, create


class OverloadMetrics(Makers):
    """What the overload controller and the rate limits note."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        self.compute_price = self._gauge("compute_price", "What routing pays for compute now.")
        self.compute_price_reason = self._gauge(
            "compute_price_reason", "1 for why the price is what it is.", "reason"
        )
        self.compute_budget = self._gauge(
            "compute_budget_ratio",
            "Share of the full network's FLOPs that the price should spend; NaN where unknown.",
        )
        self.overload_pressure = self._gauge(
            "overload_pressure", "0: the price as set; 1: the smallest networks answer."
        )
        self.admission_limit = self._gauge(
            "admission_limit", "Most queries inside the service at once."
        )
        self.refused = self._counter("refused_total", "Requests answered with 429.", "reason")
        create(self.refused, REFUSALS)
        # Asked thousands of times a second in overload: looking a label up is the dear part.
        self._refusals = {reason: self.refused.labels(reason) for reason in REFUSALS}
        for reason in PRICE_REASONS:
            self.compute_price_reason.labels(reason).set(0)
        self._price = 0.0
        self._curve: Sequence[CurvePoint] = ()
        self.compute_budget.set(math.nan)

    def overload_stepped(self, price: float, reason: str, pressure: float, admitted: int) -> None:
        """Note the price that holds and why, the pressure, and the bound on queries."""
        self.compute_price.set(price)
        self.overload_pressure.set(pressure)
        self.admission_limit.set(admitted)
        for known in PRICE_REASONS:
            self.compute_price_reason.labels(known).set(known == reason)
        if price != self._price:
            self._price = price
            self.curve_changed(self._curve)

    def curve_changed(self, curve: Sequence[CurvePoint]) -> None:
        """Note the price curve of the model that serves; the budget follows price and curve."""
        self._curve = curve
        share = share_at(curve, self._price)
        self.compute_budget.set(math.nan if share is None else share)

    def refusal(self, reason: str) -> None:
        """Note one 429: `queue`, `overload` or `rate_limit`."""
        self._refusals[reason].inc()

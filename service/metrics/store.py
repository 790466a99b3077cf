"""The history store: durations, failures, whether it answers."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from service.metrics.labels import REDIS_KINDS, REDIS_LATENCY, REDIS_OPS
from service.metrics.makers import Children, Makers, create, within


class StoreMetrics(Makers):
    """What the store notes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        self.redis_duration = self._histogram(
            "redis_operation_duration_seconds", "One store operation.", REDIS_LATENCY, "op"
        )
        self.redis_errors = self._counter(
            "redis_errors_total", "Store operations that failed.", "op", "kind"
        )
        self.redis_up = self._gauge("redis_up", "1 while the store answers.")
        self.redis_in_flight = self._gauge(
            "redis_exchanges_in_flight", "Exchanges under way, those waiting to begin included."
        )
        self.redis_connections_limit = self._gauge(
            "redis_connections_limit", "Most connections for them; 0 without a server."
        )
        create(self.redis_duration, REDIS_OPS)
        self._by_op = Children(self.redis_duration.labels)
        create(self.redis_errors, REDIS_OPS, REDIS_KINDS)

    def store_observed(self, op: str, seconds: float, kind: str | None) -> None:
        """Note one store operation; `kind` is the kind of failure, None when it went well."""
        op = within(op, REDIS_OPS)
        self._by_op[op,].observe(seconds)
        if kind is None:
            self.redis_up.set(1)
            return
        self.redis_errors.labels(op, within(kind, REDIS_KINDS)).inc()
        if kind != "response":
            self.redis_up.set(0)

"""How a metric is made: prefixed, on one registry, its children there from the start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import TypeVar

from prometheus_client import CollectorRegistry, Gauge

from service.metrics.plain import Counter, Histogram

Child = TypeVar("Child")


class Makers:
    """Base of the themes; `registry` holds everything they make."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"canet_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"canet_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"canet_{name}", text, labels, buckets=buckets, registry=self.registry)


class Children(dict[tuple[str, ...], Child]):
    """The children of a metric, found by their label values.

    Looking a child up by `labels` takes several times longer than counting does. Only for closed
    label sets: what was looked up once stays.
    """

    def __init__(self, find: Callable[..., Child]) -> None:
        super().__init__()
        self._find = find

    def __missing__(self, values: tuple[str, ...]) -> Child:
        child = self[values] = self._find(*values)
        return child


def create(metric: Counter | Histogram, *values: Sequence[str]) -> None:
    """Create every child of `metric` at 0: the product of its labels' `values`, in order."""
    for labels in product(*values):
        metric.labels(*labels)


def within(value: str, known: Sequence[str] | frozenset[str] | set[str]) -> str:
    """Return the value, or `other` when the closed set `known` does not hold it."""
    return value if value in known else "other"

"""Counters and histograms without locks: what is counted many times per request.

The library's own take a lock and check their labels for every count, which is a tenth of a request.
These are written by one thread, the event loop's, so a count is an addition. They stand on the same
registry and are exposed by the library.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, Exemplar, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

Child = TypeVar("Child")


class Labelled(Collector, Generic[Child]):
    """A metric and its children by label values; without labels the one child is there at once."""

    def __init__(
        self, name: str, text: str, labels: Sequence[str], *, registry: CollectorRegistry
    ) -> None:
        self.name, self.text, self.label_names = name, text, tuple(labels)
        self._children: dict[tuple[str, ...], Child] = {}
        if not labels:
            self.labels()
        registry.register(self)

    def labels(self, *values: object) -> Child:
        """Return the child with these label values, made at 0 if need be.

        ValueError where there are more or fewer values than labels.
        """
        key = tuple(map(str, values))
        found = self._children.get(key)
        if found is None:
            if len(key) != len(self.label_names):
                raise ValueError(f"{self.name} has the labels {self.label_names}; got {key}")
            found = self._children[key] = self._make()
        return found

    @abstractmethod
    def _make(self) -> Child:
        """Return a child at 0."""


class Count:
    """What was counted under one set of labels."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1.0) -> None:
        """Add `amount`; ValueError below 0."""
        if amount < 0:
            raise ValueError(f"a counter only rises; got {amount}")
        self.value += amount


class Counter(Labelled[Count]):
    """Rises only; `name` ends in `_total`."""

    def inc(self, amount: float = 1.0) -> None:
        """Add `amount` to a counter without labels."""
        self.labels().inc(amount)

    def collect(self) -> Iterable[Metric]:
        """Return what every child has now."""
        family = CounterMetricFamily(self.name, self.text, labels=self.label_names)
        for values, child in list(self._children.items()):
            family.add_metric(values, child.value)
        return (family,)

    def describe(self) -> Iterable[Metric]:
        """Return the name and type, for the registry to see that no other has them."""
        return (CounterMetricFamily(self.name, self.text, labels=self.label_names),)

    def _make(self) -> Count:
        return Count()


class Distribution:
    """What was observed under one set of labels."""

    __slots__ = ("_edges", "counts", "exemplars", "sum")

    def __init__(self, edges: Sequence[float]) -> None:
        self._edges = edges
        self.counts = [0] * (len(edges) + 1)
        self.sum = 0.0
        self.exemplars: dict[int, Exemplar] = {}

    def observe(self, value: float, exemplar: dict[str, str] | None = None) -> None:
        """Note one value; `exemplar` labels it as an example of its bucket."""
        place = bisect_left(self._edges, value)
        self.counts[place] += 1
        self.sum += value
        if exemplar is not None:
            self.exemplars[place] = Exemplar(exemplar, value, time.time())


class Histogram(Labelled[Distribution]):
    """Observed values by bucket; `buckets` are the upper edges, rising, the infinite one left out.

    No edge is below 0.
    """

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str],
        *,
        buckets: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._edges = tuple(map(float, buckets))
        self._texts = (*map(floatToGoString, self._edges), "+Inf")
        super().__init__(name, text, labels, registry=registry)

    def observe(self, value: float) -> None:
        """Note one value of a histogram without labels."""
        self.labels().observe(value)

    def collect(self) -> Iterable[Metric]:
        """Return what every child has now."""
        family = HistogramMetricFamily(self.name, self.text, labels=self.label_names)
        for values, child in list(self._children.items()):
            so_far = 0
            buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
            for place, (text, count) in enumerate(zip(self._texts, child.counts, strict=True)):
                so_far += count
                example = child.exemplars.get(place)
                row = (text, float(so_far))
                buckets.append(row if example is None else (*row, example))
            family.add_metric(values, buckets, child.sum)
        return (family,)

    def describe(self) -> Iterable[Metric]:
        """Return the name and type, for the registry to see that no other has them."""
        return (HistogramMetricFamily(self.name, self.text, labels=self.label_names),)

    def _make(self) -> Distribution:
        return Distribution(self._edges)

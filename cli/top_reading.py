"""What one look at /metrics found, and what two looks say together."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Every sample by name and labels, read `at` seconds of some steady clock."""

    at: float
    samples: Mapping[str, Mapping[Labels, float]]

    @classmethod
    def parse(cls, text: str, *, at: float) -> Reading:
        """Read Prometheus' text format; ValueError when it is something else."""
        from prometheus_client.parser import text_string_to_metric_families

        samples: defaultdict[str, dict[Labels, float]] = defaultdict(dict)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                samples[sample.name][frozenset(sample.labels.items())] = sample.value
        if "canet_build_info" not in samples:
            raise ValueError("canet_build_info is missing; is this the service?")
        return cls(at=at, samples=dict(samples))

    def by(self, name: str, label: str = "", **where: str) -> dict[str, float]:
        """Return the sums of a metric by the values of `label`; all under "" without one."""
        found: defaultdict[str, float] = defaultdict(float)
        for labels, value in self.samples.get(name, {}).items():
            known = dict(labels)
            if all(known.get(key) == wanted for key, wanted in where.items()):
                found[known.get(label, "")] += value
        return dict(found)

    def labels(self, name: str) -> list[dict[str, str]]:
        """Return the labels of every series of a metric."""
        return [dict(labels) for labels in self.samples.get(name, {})]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Two readings of one service, the earlier first."""

    before: Reading
    now: Reading

    def rate(self, name: str, label: str = "", **where: str) -> dict[str, float]:
        """Return the growth per second of a counter by label; a restart counts from 0."""
        seconds = max(self.now.at - self.before.at, 1e-9)
        earlier = self.before.by(name, label, **where)
        return {
            key: (value - earlier.get(key, 0.0) if value >= earlier.get(key, 0.0) else value)
            / seconds
            for key, value in self.now.by(name, label, **where).items()
        }

    def total(self, name: str, **where: str) -> float:
        """Return the growth per second, all series together."""
        return sum(self.rate(name, **where).values())

    def saved(self, spent: str, baseline: str) -> float | None:
        """Return the share of one counter's growth that another did not grow; None without."""
        whole = self.total(baseline)
        return 1 - self.total(spent) / whole if whole > 0 else None

    def quantile(self, share: float, name: str, **where: str) -> float | None:
        """Return a histogram's quantile between both looks, as Prometheus does; None if empty."""
        growth = self.rate(f"{name}_bucket", "le", **where)
        buckets = sorted((float(edge), count) for edge, count in growth.items())
        if not buckets or buckets[-1][1] <= 0:
            return None
        rank, below, start = share * buckets[-1][1], 0.0, 0.0
        for edge, count in buckets:
            if count >= rank and count > below:
                if math.isinf(edge):
                    return start
                return start + (edge - start) * (rank - below) / (count - below)
            below, start = count, edge
        return start

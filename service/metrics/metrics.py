"""Every metric of the service, on one registry. Names and labels: docs/metrics.md."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, disable_created_metrics

from service.metrics.blocklist import BlocklistMetrics
from service.metrics.quality import QualityMetrics
from service.metrics.store import StoreMetrics


class Metrics(QualityMetrics, StoreMetrics, BlocklistMetrics):
    """The service's metrics; one object per app, so that tests never collide.

    Each theme has a file of its own. Every labelled counter with a closed label set exists at 0
    from the start. Values outside a closed set are folded to `other`, so no caller can make a
    new series.
    """

    def __init__(self, registry: CollectorRegistry, *, revision: str = "unknown") -> None:
        # A `_created` beside every counter would double the series, and nothing reads it.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        super().__init__(registry)
        self.build_info = self._gauge("build_info", "1; what runs.", "version", "revision", "torch")
        self.build_info.labels(_installed("canet-serve"), revision, _installed("torch")).set(1)


def _installed(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"

"""Everything on a registry as one text, written piece by piece so that requests come in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Metric, exposition
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

_END = b"# EOF\n"


class _Family(Collector):
    """One metric as a registry of its own."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        """Return the metric."""
        return (self._family,)


async def exposed(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """Return (text, media type): OpenMetrics where `accept` names it, else Prometheus' format.

    The event loop turns after every metric: two thousand series take tens of milliseconds, which
    nobody's request has to wait.
    """
    as_openmetrics = "application/openmetrics-text" in accept
    write: Callable[[Collector], bytes] = (
        openmetrics.generate_latest if as_openmetrics else exposition.generate_latest
    )
    pieces: list[bytes] = []
    for family in registry.collect():
        pieces.append(write(_Family(family)).removesuffix(_END))
        await asyncio.sleep(0)
    if as_openmetrics:
        return b"".join([*pieces, _END]), openmetrics.CONTENT_TYPE_LATEST
    return b"".join(pieces), exposition.CONTENT_TYPE_LATEST

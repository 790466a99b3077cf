"""A registry with everything in use: what a scrape can cost at most.

`python -m tests.service.everything` measures it: milliseconds of CPU for one text, and the longest
that the event loop is kept, the least and the median of fifty.
"""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import replace
from statistics import median
from typing import get_args

from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry

from service.http.problems import KINDS
from service.http.routing import ENDPOINTS
from service.lifecycle.contract import Variant
from service.metrics.exposition import exposed
from service.metrics.labels import METHODS, MOST_SUBMODELS, OFFLINE_METRICS, UNMATCHED
from service.metrics.metrics import Metrics
from tests.service.fakes import SMALL, info


def in_use() -> CollectorRegistry:
    """36 submodels, three variants, every route with every status, every method without one."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    submodels = tuple(replace(SMALL, name=f"d{number}-w8-e8") for number in range(MOST_SUBMODELS))
    offline = dict.fromkeys(OFFLINE_METRICS, 0.5)
    model = replace(info(), submodels=submodels, offline_metrics=offline)
    for variant in get_args(Variant):
        metrics.model_loaded(model, loaded_at_unix=1.0, variant=variant)
    metrics.create_routes((endpoint.method, endpoint.path) for endpoint in ENDPOINTS)
    for status in {200, 204, *(kind.status for kind in KINDS.values())}:
        for endpoint in ENDPOINTS:
            metrics.http_answered(endpoint.method, endpoint.path, status, 0.01)
    for method in (*METHODS, "ODD"):
        for route in (UNMATCHED, *(endpoint.path for endpoint in ENDPOINTS)):
            for status in (404, 405, 413):
                metrics.http_answered(method, route, status, 0.01)
    for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
        registry.register(collector)
    return registry


async def _scrape(registry: CollectorRegistry, accept: str) -> tuple[float, float]:
    """Milliseconds of CPU for one text, and the longest turn of the event loop in it."""
    task = asyncio.create_task(exposed(registry, accept))
    began, turns = time.thread_time(), [0.0]
    while not task.done():
        turn = time.thread_time()
        await asyncio.sleep(0)
        turns.append(time.thread_time() - turn)
    return (time.thread_time() - began) * 1000, max(turns) * 1000


async def _measure() -> None:
    registry = in_use()
    samples = sum(len(family.samples) for family in registry.collect())
    for accept in ("text/plain", "application/openmetrics-text"):
        found = [await _scrape(registry, accept) for _ in range(50)]
        whole, longest = zip(*found, strict=True)
        sys.stdout.write(
            f"{samples} series, {accept}: {min(whole):.1f} and {median(whole):.1f} ms of CPU, "
            f"{min(longest):.1f} and {median(longest):.1f} ms at once\n"
        )


if __name__ == "__main__":
    asyncio.run(_measure())

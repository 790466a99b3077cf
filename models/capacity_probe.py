"""Three small works that stand for the service's: one core, a second or two in all."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

import torch

from models.capacity import Probe

_REPEATS = 9


def run_probe() -> Probe:
    """Return the median seconds of interpreted Python, a small product and a table scan."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        generator = torch.Generator().manual_seed(0)
        hidden = torch.randn(50, 128, generator=generator)
        weight = torch.randn(512, 128, generator=generator)
        table = torch.randn(200_000, 64, generator=generator)
        query = torch.randn(64, generator=generator)
        with torch.inference_mode():
            return Probe(
                python=_seconds(_interpret, 20),
                product=_seconds(lambda: torch.nn.functional.linear(hidden, weight), 200),
                scan=_seconds(lambda: table @ query, 10),
            )
    finally:
        torch.set_num_threads(threads)


def _interpret() -> None:
    items = [{"item_id": f"item-{place}", "rank": place} for place in range(100)]
    read = json.loads(json.dumps({"items": items}))
    sorted(read["items"], key=lambda item: str(item["item_id"]))


def _seconds(work: Callable[[], object], times: int) -> float:
    """Return the median CPU seconds of one call, over repeats of `times` calls."""
    work()
    found = []
    for _ in range(_REPEATS):
        began = time.process_time()
        for _ in range(times):
            work()
        found.append((time.process_time() - began) / times)
    return statistics.median(found)

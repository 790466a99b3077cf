"""One fault under load: how it was answered, and how soon it was over."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.chaos.redis_load import WAIT_SECONDS, Load, Seen

_AFTER_SECONDS = 0.5
_COLUMNS = {
    "fault": "fault",
    "asked": "asked",
    "errors": "5xx",
    "shed": "429",
    "degraded": "degraded",
    "p50": "p50 ms",
    "p99": "p99 ms",
    "slowest": "max ms",
    "acknowledged": "told",
    "refused": "503",
    "recovery": "back after s",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What came from the fault's beginning until all had been well for half a second."""

    fault: str
    took: NDArray[np.float64]
    """Milliseconds of each recommendation."""
    errors: int
    shed: int
    degraded: int
    acknowledged: int
    refused: int
    recovery: float
    """Seconds from Redis being back until the last answer that lacked it."""

    @property
    def asked(self) -> int:
        return len(self.took)

    @property
    def p50(self) -> float:
        return float(np.percentile(self.took, 50))

    @property
    def p99(self) -> float:
        return float(np.percentile(self.took, 99))

    @property
    def slowest(self) -> float:
        return float(self.took.max())


async def calm(load: Load, seconds: float) -> Row:
    """Return how it is answered while nothing is wrong."""
    await _until_good(load, time.monotonic())
    began = time.monotonic()
    await asyncio.sleep(seconds)
    return _row("none", load, began, time.monotonic(), [])


async def hurt(
    load: Load,
    name: str,
    harm: Callable[[], None],
    heal: Callable[[], None],
    *,
    seconds: float,
    degrades: bool = True,
    refuses: bool = True,
) -> Row:
    """Harm, wait at least `seconds` and until it shows, heal, wait until all is well again.

    It shows when a recommendation is degraded and when events are refused, where it should.
    """
    began = time.monotonic()
    await asyncio.to_thread(harm)
    await asyncio.sleep(seconds)
    if degrades:
        await _until(lambda: _any(load.asked, began, good=False), f"{name}: nothing was degraded")
    if refuses:
        await _until(lambda: _any(load.told, began, good=False), f"{name}: no event was refused")
    await asyncio.to_thread(heal)
    back = time.monotonic()
    await _until_good(load, back)
    await asyncio.sleep(_AFTER_SECONDS)
    ended = time.monotonic()
    late = [seen.ended - back for seen in (*load.asked, *load.told) if not seen.good]
    return _row(name, load, began, ended, late)


def together(name: str, rows: Sequence[Row]) -> Row:
    """Return many trials as one; of recoveries, the slowest."""
    return Row(
        fault=name,
        took=np.concatenate([row.took for row in rows]),
        errors=sum(row.errors for row in rows),
        shed=sum(row.shed for row in rows),
        degraded=sum(row.degraded for row in rows),
        acknowledged=sum(row.acknowledged for row in rows),
        refused=sum(row.refused for row in rows),
        recovery=max(row.recovery for row in rows),
    )


def show(title: str, rows: Sequence[Row], *closing: str) -> None:
    """Print the rows as a table."""
    table = [list(_COLUMNS.values())]
    table += [[_text(getattr(row, name)) for name in _COLUMNS] for row in rows]
    widths = [max(len(line[place]) for line in table) for place in range(len(_COLUMNS))]
    lines = [
        " | ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in table
    ]
    sys.stdout.write("\n" + "\n".join([title, *lines, *closing]) + "\n")


def _row(name: str, load: Load, began: float, ended: float, late: Sequence[float]) -> Row:
    asked = [seen for seen in load.asked if began <= seen.ended <= ended]
    told = [seen for seen in load.told if began <= seen.ended <= ended]
    return Row(
        fault=name,
        took=np.array([seen.ended - seen.began for seen in asked]) * 1000,
        errors=sum(seen.status >= 500 or seen.status == 0 for seen in asked),
        shed=sum(seen.status == 429 for seen in asked),
        degraded=sum("redis_down" in seen.flags for seen in asked),
        acknowledged=sum(seen.status == 200 for seen in told),
        refused=sum(seen.status == 503 for seen in told),
        recovery=max([0.0, *late]),
    )


def _any(seen: Sequence[Seen], since: float, *, good: bool) -> bool:
    return any(one.good is good for one in reversed(seen) if one.began >= since)


async def _until_good(load: Load, since: float) -> None:
    await _until(lambda: _any(load.asked, since, good=True), "no recommendation was well again")
    await _until(lambda: _any(load.told, since, good=True), "no event was acknowledged again")


async def _until(done: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while not done():
        assert time.monotonic() < end, what
        await asyncio.sleep(0.01)


def _text(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)

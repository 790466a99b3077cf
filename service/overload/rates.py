"""How many requests a caller may make: token buckets, one per caller."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from service.config.values import Rate

# Callers remembered; beyond it the one that asked longest ago starts afresh.
MOST_CALLERS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether one more request is within the rate, and what is left of it."""

    allowed: bool
    remaining: int
    """Requests that would be allowed at once now."""
    reset_seconds: float
    """Until the whole rate is there again."""
    retry_seconds: float = 0.0
    """Until one more request is allowed; 0 when this one was."""


class Rates(Protocol):
    """Counts requests by caller."""

    async def take(self, caller: str) -> Verdict:
        """Count one request of `caller`, unless it exceeds the rate; never raises."""
        ...

    async def close(self) -> None:
        """Let go of what is held. Idempotent."""
        ...


def spend(full_at: float, now: float, rate: Rate) -> tuple[float, Verdict]:
    """Return when the bucket is full again after one more request at `now`, and the verdict.

    `full_at` is when it is full without it, seconds on the clock of `now`; any time in the past
    stands for a full bucket. That one number is the whole bucket: it holds `rate.requests`
    tokens and gains one every `rate.seconds / rate.requests`.
    """
    token = rate.seconds / rate.requests
    before = max(full_at, now)
    after = before + token
    if after - now > rate.seconds * (1 + 1e-9):
        return before, Verdict(
            allowed=False,
            remaining=0,
            reset_seconds=before - now,
            retry_seconds=after - now - rate.seconds,
        )
    left = int((rate.seconds - (after - now)) / token + 1e-6)
    return after, Verdict(allowed=True, remaining=left, reset_seconds=after - now)


class LocalRates:
    """Counts in this process: every replica allows the whole rate."""

    def __init__(self, rate: Rate, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()

    async def take(self, caller: str) -> Verdict:
        """Count one request of `caller`, unless it exceeds the rate."""
        now = self._clock()
        full_at, verdict = spend(self._full_at.pop(caller, now), now, self._rate)
        self._full_at[caller] = full_at
        if len(self._full_at) > MOST_CALLERS:
            self._full_at.popitem(last=False)
        return verdict

    async def close(self) -> None:
        """Do nothing: there is nothing to let go of."""

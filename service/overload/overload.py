"""The live price of compute and the bound on requests, kept by watching the queue."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, Protocol

from service.engine.batcher import BatchObserver, QueueFullError, Release
from service.engine.contract import BatchTimings, Price
from service.overload.controller import Limits, Observation, State, step, surcharge

log = logging.getLogger("canet.overload")

PriceReason = Literal["published", "set", "overload"]
TICK_SECONDS = 0.05
# Over which the rate is taken: one batch more or less must not move the bound.
RATE_SECONDS = 1.0
# How long the best rate counts: what is admitted bounds what is answered, and a bound taken from
# the rate of the moment would pull itself down.
PEAK_SECONDS = 10.0
# How often one request waits for the event loop: when its bytes are there, when its history is,
# and when its ranking is.
LOOP_PASSES = 3


class OverloadObserver(Protocol):
    """Told after every step."""

    def overload_stepped(
        self, price: float, reason: PriceReason, pressure: float, admitted: int
    ) -> None:
        """Note the price that holds and why, the pressure, and the bound on requests."""
        ...

    def refusal(self, reason: str) -> None:
        """Note one request turned away: `queue` or `overload`."""
        ...


class Overload:
    """Holds the price and the bound; `run` keeps both while the service runs.

    Belongs to the event loop, but `price`, which the worker thread asks for. It stands between the
    batcher and `batches`, so that it sees every batch. `waiting` counts the queries in the queue;
    `published` returns the price of the model that serves now, None without one; with `configured`
    that is the price of CANET_PRICE.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        observer: OverloadObserver,
        batches: BatchObserver,
        waiting: Callable[[], int],
        published: Callable[[], float | None],
        configured: bool = False,
    ) -> None:
        self._limits = limits
        self._observer = observer
        self._batches = batches
        self._waiting = waiting
        self._published = published
        self._configured = configured
        self._price = Price()
        self._state = State()
        self._inside = 0
        self._arriving = 0
        self._waits: list[float] = []
        self._busy_seconds = 0.0
        self._refused = 0
        self._silent_seconds = 0.0
        self._last_wait = 0.0
        self._rate = 0.0
        self._peak_rate = 0.0

    @property
    def price(self) -> Price:
        """What the next batch pays for compute; callable from any thread."""
        return self._price

    @property
    def state(self) -> State:
        """Where the controller stands."""
        return self._state

    @property
    def reason(self) -> PriceReason:
        """Why the price is what it is."""
        if self._price.surcharge > 0:
            return "overload"
        return "set" if self._configured or self._price.base is not None else "published"

    @property
    def effective(self) -> float:
        """The price that holds now, surcharge included; 0 without a model and a set price."""
        base = self._published() if self._price.base is None else self._price.base
        return (base or 0.0) + self._price.surcharge

    def set_price(self, base: float | None) -> None:
        """Make `base` the price from the next batch on; None: the price of the model again."""
        self._price = Price(base=base, surcharge=self._price.surcharge)
        self._tell()

    def refuses(self) -> bool:
        """Return whether a request that came now would be refused, and count it if so."""
        most = self._state.admitted
        if most is None or self._inside < most:
            return False
        self._refused += 1
        self._observer.refusal("overload")
        return True

    def turns_away(self) -> bool:
        """Return whether a request whose headers are there now is refused, and count it if so.

        One that is not counts as inside until `arrived`: of many that are read at once, no more
        pass than there is room for.
        """
        most = self._state.admitted
        if most is not None and self._inside + self._arriving >= most:
            self._refused += 1
            self._observer.refusal("overload")
            return True
        self._arriving += 1
        return False

    def arrived(self) -> None:
        """Note that one request that `turns_away` let pass counts for itself from here on."""
        self._arriving -= 1

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Count one query as inside while the block runs; QueueFullError when there is no room."""
        if self.refuses():
            raise QueueFullError("as many queries are inside as can be answered in time")
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    def batch_done(
        self, queue_seconds: Sequence[float], timings: BatchTimings, variant: str
    ) -> None:
        """Note one engine call, and pass it on."""
        busy = timings.route_seconds + timings.encode_seconds + timings.score_seconds
        self._waits.extend(queue_seconds)
        self._busy_seconds += busy
        self._batches.batch_done(queue_seconds, timings, variant)

    def batch_released(self, reason: Release, variant: str) -> None:
        """Pass it on."""
        self._batches.batch_released(reason, variant)

    def queue_rejected(self) -> None:
        """Note one query that the full queue refused, and pass it on."""
        self._refused += 1
        self._observer.refusal("queue")
        self._batches.queue_rejected()

    async def run(self) -> None:
        """Step for ever, every TICK_SECONDS."""
        last = time.perf_counter()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = time.perf_counter()
            self.tick(now - last)
            last = now

    def tick(self, seconds: float) -> None:
        """Step once; `seconds` have passed since the last time.

        What exceeds TICK_SECONDS the event loop was late: whoever is inside waited that long
        LOOP_PASSES times.
        """
        waits, self._waits = self._waits, []
        busy, self._busy_seconds = self._busy_seconds, 0.0
        refused, self._refused = self._refused, 0
        # Between the batches of a slow engine the last wait still tells most. One that is stuck
        # finishes nothing that could tell how long it took.
        between = not waits and self._waiting() > 0
        self._silent_seconds = self._silent_seconds + seconds if between else 0.0
        if not between:
            self._last_wait = sum(waits) / len(waits) if waits else 0.0
        wait = max(self._last_wait, self._silent_seconds)
        if self._inside:
            wait += LOOP_PASSES * max(0.0, seconds - TICK_SECONDS)
        weight = 1.0 - math.exp(-seconds / RATE_SECONDS)
        self._rate += weight * (len(waits) / seconds - self._rate)
        self._peak_rate = max(self._rate, self._peak_rate * math.exp(-seconds / PEAK_SECONDS))
        seen = Observation(
            seconds=seconds,
            wait_seconds=wait,
            utilisation=min(1.0, busy / seconds),
            rate=self._peak_rate,
            inside=self._inside,
            refused=refused,
        )
        before, self._state = self._state, step(self._state, seen, self._limits)
        _log(before, self._state, wait)
        self._price = Price(base=self._price.base, surcharge=surcharge(self._state.pressure))
        self._tell()

    def _tell(self) -> None:
        admitted = self._state.admitted
        self._observer.overload_stepped(
            self.effective,
            self.reason,
            self._state.pressure,
            self._limits.most_admitted if admitted is None else admitted,
        )


def _log(before: State, now: State, wait: float) -> None:
    if before.pressure == 0.0 < now.pressure:
        log.warning("overload: queries wait %.0f ms, networks shrink", wait * 1000)
    elif now.pressure == 0.0 < before.pressure:
        log.info("overload over: the price is as set")
    if before.admitted is None and now.admitted is not None:
        log.warning("overload: queries wait %.0f ms, requests are refused", wait * 1000)
    elif now.admitted is None and before.admitted is not None:
        log.info("overload over: no request is refused")

"""The highest rate that holds an objective, found by trials."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.client.job import Outcome

_CLOSE_ENOUGH = 1.05
_STEP = 1.35


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """`rate` is the highest that held, 0 when none did; `outcome` is its trial."""

    rate: float
    outcome: Outcome | None
    trials: int


def highest_rate(
    trial: Callable[[float], Outcome], *, p99_ms: float, start: float, most_trials: int = 8
) -> Found:
    """Search from `start` requests per second for the highest rate whose trial holds `p99_ms`.

    Rates rise and fall by a third until one holds and one does not, then the gap is halved
    (geometrically) until it is below 5 % or `most_trials` rates were tried. One that does not hold
    is tried a second time: a pause of the machine says nothing of the server.
    """
    held: tuple[float, Outcome] | None = None
    broken: float | None = None
    rate = start
    trials = 0
    for _ in range(most_trials):
        trials += 1
        outcome = trial(rate)
        if not outcome.holds(p99_ms):
            trials += 1
            outcome = trial(rate)
        if outcome.holds(p99_ms):
            held = (rate, outcome)
        else:
            broken = rate
        if held is None:
            rate /= _STEP
        elif broken is None:
            rate *= _STEP
        elif broken / held[0] < _CLOSE_ENOUGH:
            break
        else:
            rate = (held[0] * broken) ** 0.5
    if held is None:
        return Found(rate=0.0, outcome=None, trials=trials)
    return Found(rate=held[0], outcome=held[1], trials=trials)

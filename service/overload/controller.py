"""How far to raise the price of compute, and how many requests to admit: one pure function.

First networks shrink, then requests are refused: while queries wait longer than a quarter of the
latency objective, the pressure rises, and the price with it; admission is bounded at full pressure
when waits are long still, and before it when whoever is let in would be answered too late however
small the networks. By Little's law, `rate * wait` requests inside the service keep the mean wait at
`wait`. Both end with hysteresis, once the load has.
"""

from __future__ import annotations

from dataclasses import dataclass

# Shares of the latency objective: waits above the first raise the pressure, above the second
# bound admission (and are what admission then aims at), below the third count as calm.
RAISE_SHARE = 0.25
ADMIT_SHARE = 0.35
CALM_SHARE = 0.125
# An engine busier than this would be overloaded again as soon as its networks grow.
CALM_UTILISATION = 0.8
# From no pressure to all of it, and back: seconds.
RISE_SECONDS = 0.5
FALL_SECONDS = 2.0
# How long waits must stay too long before requests are refused, and how long calm must last
# before anything is undone: a single slow batch is not an overload, a single gap not its end.
HOT_SECONDS = 0.1
# Until then no step raises the pressure by more.
FIRST_STEP = 0.2
# How long before requests are refused although networks could shrink further: a burst is none.
LATE_SECONDS = 0.25
HOLD_SECONDS = 0.5
# The surcharge grows from 0 by this factor, so that every doubling takes equally long. Its end
# outweighs any quality the router can expect (0 to 1) where costs differ by a thousandth.
SURCHARGE_UNIT = 0.1
SURCHARGE_SPAN = 10_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the controller holds, and what it may do about it."""

    objective_seconds: float
    """The time within which admitted requests are to be answered."""
    least_admitted: int
    most_admitted: int
    shrink: bool
    shed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What happened in the last `seconds`."""

    seconds: float
    wait_seconds: float
    """How long queries waited before the engine took them."""
    utilisation: float
    """Share of the time that the engine computed, 0 to 1."""
    rate: float
    """Queries that the engine can answer per second: the most it lately did."""
    inside: int = 0
    """Queries inside the service at the end."""
    refused: int = 0
    """Requests turned away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Where the controller stands."""

    pressure: float = 0.0
    """0: the price stands as set; 1: the smallest networks answer."""
    admitted: int | None = None
    """Most requests inside the service at once; None: as many as the queue holds."""
    hot_seconds: float = 0.0
    calm_seconds: float = 0.0


def step(state: State, seen: Observation, limits: Limits) -> State:
    """Return the state after `seen`. Depends on nothing else and changes nothing."""
    calm_seconds = _calm_seconds(state, seen, limits)
    hot = seen.wait_seconds > limits.objective_seconds * RAISE_SHARE
    hot_seconds = state.hot_seconds + seen.seconds if hot else 0.0
    ended = calm_seconds >= HOLD_SECONDS
    pressure = _pressure(state, seen, limits, ended=ended)
    return State(
        pressure=pressure,
        admitted=_admitted(state, seen, limits, hot_seconds=hot_seconds, ended=ended),
        hot_seconds=hot_seconds,
        calm_seconds=calm_seconds,
    )


def surcharge(pressure: float) -> float:
    """Return what `pressure` (0 to 1) adds to the price of compute: 0 for 0, smoothly rising."""
    return SURCHARGE_UNIT * float(SURCHARGE_SPAN**pressure - 1.0)


def _calm_seconds(state: State, seen: Observation, limits: Limits) -> float:
    wait, objective = seen.wait_seconds, limits.objective_seconds
    if wait > objective * RAISE_SHARE or seen.refused:
        return 0.0
    if wait > objective * CALM_SHARE or seen.utilisation > CALM_UTILISATION:
        return state.calm_seconds  # neither: a busy machine's hiccup does not undo the calm
    return state.calm_seconds + seen.seconds


def _pressure(state: State, seen: Observation, limits: Limits, *, ended: bool) -> float:
    if not limits.shrink:
        return 0.0
    excess = seen.wait_seconds / (limits.objective_seconds * RAISE_SHARE) - 1.0
    if excess > 0:
        # The longer the wait, the faster. A saturated event loop steps rarely, and widely then.
        rise = min(excess, 1.0) * seen.seconds / RISE_SECONDS
        most = FIRST_STEP if state.hot_seconds < HOT_SECONDS else 1.0
        return min(1.0, state.pressure + min(rise, most))
    if ended:
        return max(0.0, state.pressure - seen.seconds / FALL_SECONDS)
    return state.pressure


def _admitted(
    state: State, seen: Observation, limits: Limits, *, hot_seconds: float, ended: bool
) -> int | None:
    if not limits.shed or ended:
        return None
    if state.admitted is None and not _too_many(state, seen, limits, hot_seconds):
        return None
    room = round(seen.rate * limits.objective_seconds * ADMIT_SHARE)
    # What is admitted bounds what is answered: a falling count must not pull the bound down.
    if state.admitted is not None and seen.wait_seconds < limits.objective_seconds * RAISE_SHARE:
        room = max(room, state.admitted + 1)
    return max(limits.least_admitted, min(room, limits.most_admitted))


def _too_many(state: State, seen: Observation, limits: Limits, hot_seconds: float) -> bool:
    """Whether smaller networks would not be enough, or would come too late for those inside."""
    objective = limits.objective_seconds
    if not limits.shrink or state.pressure >= 1.0:
        return hot_seconds >= HOT_SECONDS and seen.wait_seconds > objective * ADMIT_SHARE
    late = seen.wait_seconds > objective or seen.inside > seen.rate * objective
    return hot_seconds >= LATE_SECONDS and late and state.pressure > 0.0

"""Networks shrink first, requests are refused next, and both end once the load has."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.overload.controller import (
    LATE_SECONDS,
    Limits,
    Observation,
    State,
    step,
    surcharge,
)

LIMITS = Limits(objective_seconds=0.1, least_admitted=32, most_admitted=256, shrink=True, shed=True)
TICK = 0.05

# A slow machine is no failure of the controller.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

limits = st.builds(
    Limits,
    objective_seconds=st.floats(0.005, 60),
    least_admitted=st.integers(1, 100),
    most_admitted=st.integers(100, 1000),
    shrink=st.booleans(),
    shed=st.booleans(),
)
observations = st.builds(
    Observation,
    seconds=st.floats(0.001, 10),
    wait_seconds=st.floats(0, 100),
    utilisation=st.floats(0, 1),
    rate=st.floats(0, 1e6),
    refused=st.integers(0, 1000),
    inside=st.integers(0, 1000),
)


def idle() -> Observation:
    return Observation(seconds=TICK, wait_seconds=0.0, utilisation=0.0, rate=0.0)


def busy(
    wait: float, *, rate: float = 1000.0, refused: int = 0, inside: int = 0, seconds: float = TICK
) -> Observation:
    return Observation(
        seconds=seconds,
        wait_seconds=wait,
        utilisation=1.0,
        rate=rate,
        refused=refused,
        inside=inside,
    )


def after(state: State, seen: Observation, seconds: float, within: Limits = LIMITS) -> State:
    for _ in range(round(seconds / TICK)):
        state = step(state, seen, within)
    return state


@patient
@given(st.lists(observations, max_size=60), limits)
def test_it_stays_within_its_bounds_whatever_it_sees(seen: list[Observation], has: Limits) -> None:
    state = State()
    for one in seen:
        before, state = state, step(state, one, has)
        assert 0.0 <= state.pressure <= 1.0
        assert has.shrink or state.pressure == 0.0
        assert has.shed or state.admitted is None
        if state.admitted is not None:
            assert has.least_admitted <= state.admitted <= has.most_admitted
        # Requests are bounded only after networks have begun to shrink.
        if before.admitted is None and state.admitted is not None and has.shrink:
            assert before.pressure > 0.0


@patient
@given(st.lists(observations, max_size=60), limits)
def test_it_recovers_within_five_seconds_from_anything(
    seen: list[Observation], has: Limits
) -> None:
    state = State()
    for one in seen:
        state = step(state, one, has)
    state = after(state, idle(), 5.0, has)
    assert (state.pressure, state.admitted) == (0.0, None)


@patient
@given(st.lists(observations, max_size=30), st.floats(0, 10), st.floats(0, 10))
def test_longer_waits_never_lower_the_pressure(
    seen: list[Observation], wait: float, more: float
) -> None:
    state = State()
    for one in seen:
        state = step(state, one, LIMITS)
    lesser = step(state, busy(wait), LIMITS)
    greater = step(state, busy(wait + more), LIMITS)
    assert greater.pressure >= lesser.pressure


@patient
@given(st.floats(0, 0.025))
def test_waits_within_a_quarter_of_the_objective_change_nothing(wait: float) -> None:
    assert after(State(), busy(wait), 30.0).pressure == 0.0


@patient
@given(st.floats(0.0126, 0.0249))
def test_between_calm_and_too_long_the_price_stands(wait: float) -> None:
    raised = State(pressure=0.4)
    assert after(raised, busy(wait), 30.0).pressure == 0.4


def test_a_hiccup_now_and_then_does_not_put_the_end_off() -> None:
    state = State(pressure=1.0, admitted=50)
    hiccup = Observation(seconds=TICK, wait_seconds=0.02, utilisation=0.0, rate=0.0)
    for _ in range(100):
        state = step(step(state, idle(), LIMITS), hiccup, LIMITS)
    assert (state.pressure, state.admitted) == (0.0, None)


def test_a_lasting_overload_shrinks_within_a_second_and_then_bounds_admission() -> None:
    state, first = State(), None
    for tick in range(40):
        state = step(state, busy(0.06, rate=1000.0, inside=60), LIMITS)
        if state.pressure == 1.0 and first is None:
            first = tick
            assert state.admitted is None
    assert first is not None
    assert first * TICK <= 1.0
    assert state.admitted == 35  # 1000 a second times 0.35 of 100 ms


@pytest.mark.parametrize(
    "seen",
    [busy(0.03, rate=1000.0, inside=101), busy(0.11, rate=1000.0, inside=1)],
    ids=["as many inside as cannot be answered in time", "waits beyond the objective"],
)
def test_what_would_be_answered_too_late_is_refused_before_all_has_shrunk(
    seen: Observation,
) -> None:
    shrinking = after(State(), seen, LATE_SECONDS - TICK)
    assert shrinking.pressure > 0.0
    assert shrinking.admitted is None
    refusing = after(shrinking, seen, 2 * TICK)
    assert refusing.pressure < 1.0 or seen.wait_seconds > 0.1
    assert refusing.admitted is not None


def test_an_event_loop_that_steps_rarely_shrinks_as_soon() -> None:
    state = State()
    for _ in range(3):
        state = step(state, busy(0.3, seconds=0.3), LIMITS)
    assert state.pressure == 1.0
    assert state.admitted is not None


def test_without_shrinking_admission_is_bounded_at_once() -> None:
    shed = Limits(
        objective_seconds=0.1, least_admitted=32, most_admitted=256, shrink=False, shed=True
    )
    assert after(State(), busy(0.2), 0.2, shed).admitted is not None


def test_the_bound_grows_again_when_it_was_too_low() -> None:
    tight = State(pressure=1.0, admitted=32)
    assert after(tight, busy(0.01, rate=100.0, refused=5), 1.0).admitted == 52


def test_while_requests_are_refused_nothing_is_undone() -> None:
    state = State(pressure=1.0, admitted=50)
    assert after(state, busy(0.0, rate=1000.0, refused=1), 10.0).pressure == 1.0


def test_one_slow_batch_raises_little_and_refuses_nobody() -> None:
    state = step(State(), busy(1.0), LIMITS)
    assert state.pressure <= 0.2
    assert state.admitted is None
    assert after(state, idle(), 1.0).pressure == 0.0


@patient
@given(st.floats(0, 1), st.floats(0, 1))
def test_the_surcharge_rises_smoothly_from_nothing(one: float, other: float) -> None:
    lesser, greater = sorted((one, other))
    assert surcharge(0.0) == 0.0
    assert 0 <= surcharge(lesser) <= surcharge(greater) <= surcharge(1.0)
    # A step of a fiftieth never more than doubles what the price may weigh.
    assert surcharge(min(1.0, lesser + 0.02)) <= 2 * surcharge(lesser) + 0.1

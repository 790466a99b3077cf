"""The search for the highest rate that holds."""

from __future__ import annotations

import pytest

from bench.client.job import Outcome
from bench.rates import highest_rate


def outcome(p99_ms: float) -> Outcome:
    return Outcome(
        requests=100,
        failed=0,
        degraded=0,
        gave_up=False,
        seconds=1.0,
        mean_ms=p99_ms,
        p50_ms=p99_ms,
        p90_ms=p99_ms,
        p99_ms=p99_ms,
        p999_ms=p99_ms,
        max_ms=p99_ms,
        send_lag_p99_ms=0.0,
        client_cpu_share=0.1,
    )


@pytest.mark.parametrize("limit", [40.0, 300.0, 1234.0])
@pytest.mark.parametrize("start", [100.0, 400.0, 2000.0])
def test_the_limit_is_found_from_below_and_from_above(limit: float, start: float) -> None:
    tried: list[float] = []

    def trial(rate: float) -> Outcome:
        tried.append(rate)
        return outcome(10.0 if rate <= limit else 90.0)

    found = highest_rate(trial, p99_ms=50.0, start=start, most_trials=30)
    assert limit / 1.05 <= found.rate <= limit
    assert found.trials == len(tried)
    assert all(tried.count(rate) == (1 if rate <= limit else 2) for rate in tried)
    assert found.outcome is not None
    assert found.outcome.p99_ms == 10.0


def test_no_rate_holds() -> None:
    found = highest_rate(lambda rate: outcome(90.0), p99_ms=50.0, start=100.0, most_trials=4)
    assert (found.rate, found.outcome, found.trials) == (0.0, None, 8)


def test_one_bad_moment_does_not_break_a_rate() -> None:
    moments = iter([90.0, 10.0])
    found = highest_rate(
        lambda rate: outcome(next(moments, 90.0)), p99_ms=50.0, start=100.0, most_trials=5
    )
    assert found.rate == 100.0


def test_a_failed_request_breaks_the_objective() -> None:
    values = {name: getattr(outcome(1.0), name) for name in Outcome.__slots__}
    assert Outcome(**values).holds(50)
    assert not Outcome(**{**values, "failed": 1}).holds(50)
    assert not Outcome(**{**values, "degraded": 1}).holds(50)
    assert not Outcome(**{**values, "gave_up": True}).holds(50)
    assert Outcome(**{**values, "failed": 10, "degraded": 20}).throughput == 70

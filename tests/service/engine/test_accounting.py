"""Work is summed by submodel and part, and the full network's CPU time is foretold from its own."""

from __future__ import annotations

import random

import pytest

from service.engine.accounting import Accounting, FullNetworkCpu, GroupCost
from service.engine.contract import Flops, Part, Ranking, Work


def answer(submodel: str, flops: Flops) -> Ranking:
    return Ranking(
        items=(),
        source="model",
        model_version="v1",
        submodel=submodel,
        flops=flops,
        flops_full=Flops(encoder=1000, scoring=500),
    )


def test_costs_per_call_and_per_flop_are_found_again() -> None:
    generator = random.Random(5)
    cpu = FullNetworkCpu()
    assert cpu.predict(1, 1e6) is None
    for _ in range(300):
        flops = generator.uniform(1e6, 1e9)
        cpu.measured(flops, 2e-4 + 3e-11 * flops + generator.gauss(0, 1e-6))
    for calls, flops in ((1, 2e6), (3, 5e8), (10, 9e9)):
        assert cpu.predict(calls, flops) == pytest.approx(calls * 2e-4 + 3e-11 * flops, rel=0.02)


def test_a_cost_is_never_negative_and_equal_calls_are_scaled() -> None:
    alike, falling, rising = FullNetworkCpu(), FullNetworkCpu(), FullNetworkCpu()
    for step in range(1, 20):
        alike.measured(100.0, 0.5)
        falling.measured(100.0 * step, 2.0 - 0.01 * step)
        rising.measured(100.0 * step, 0.1 * step - 0.05)
    assert alike.predict(4, 200.0) == pytest.approx(1.0)
    seconds = falling.predict(2, 1.0)
    assert seconds is not None
    assert 3.0 < seconds < 4.0
    seconds = rising.predict(50, 1.0)
    assert seconds is not None
    assert 0 < seconds < 0.01


def test_a_batch_is_summed_and_teaches_what_the_full_network_takes() -> None:
    accounting = Accounting(full="d2-w2-e2")
    small = answer("d1-w1-e1", Flops(router=7, encoder=10, scoring=5))
    full = answer("d2-w2-e2", Flops(encoder=1000, scoring=500))
    cpu: dict[Part, float] = {"encoder": 0.5, "scoring": 0.25}
    quick = GroupCost(submodel="d1-w1-e1", members=(0, 1), cpu_seconds=cpu)
    work = accounting.work([small, small], [quick], 0.125)
    assert work == {
        ("all", "router"): Work(flops=14, cpu_seconds=0.125),
        ("d1-w1-e1", "encoder"): Work(flops=20, cpu_seconds=0.5),
        ("d1-w1-e1", "scoring"): Work(flops=10, cpu_seconds=0.25),
    }
    assert accounting.full_cpu_per_flop([small], 1) == {}

    slow = GroupCost(submodel="d2-w2-e2", members=(0,), cpu_seconds={"encoder": 3, "scoring": 1})
    accounting.work([full], [slow], 0.0)
    rates = accounting.full_cpu_per_flop([small], 1)
    assert rates == {"encoder": pytest.approx(3 / 1000), "scoring": pytest.approx(1 / 500)}
    assert accounting.full_cpu_per_flop([], 0) == {}

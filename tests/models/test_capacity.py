"""The cost model of `canet plan`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from models.capacity import (
    MOST_UTILISATION,
    Coefficients,
    Deployment,
    Probe,
    highest_utilisation,
    p99_seconds,
    plan,
    read_coefficients,
    submodel_work,
)
from models.capacity_probe import run_probe

PROBE = Probe(python=1e-4, product=1e-4, scan=1e-2)
COEFFICIENTS = Coefficients(
    machine="a test",
    remark="made up",
    points=10,
    held_out=5,
    fixed=1e-3,
    layer=1e-4,
    encoder=5e-11,
    scan=2e-10,
    memory_base=200e6,
    memory_per_item=700.0,
    emb_width=64,
    fit_median=0.05,
    held_out_median=0.1,
    held_out_worst=0.2,
    rate_median=None,
    rate_worst=None,
    probe=PROBE,
)
DEPLOYMENT = Deployment(items=10_000, length=50, depth=4, width=128, emb_width=64, budget=None)


def test_the_shipped_coefficients_are_read_and_give_a_plan() -> None:
    shipped = read_coefficients()
    assert shipped.machine
    assert shipped.held_out > 0
    found = plan(DEPLOYMENT, shipped, rps=2000, p99=0.5)
    assert found.replicas >= 1
    assert found.cpu_seconds > 0
    assert found.memory_per_replica > 0


def test_the_full_budget_is_the_full_network_and_the_least_the_smallest() -> None:
    config = DEPLOYMENT.config
    full, _ = dataclasses.replace(DEPLOYMENT, budget=1.0).work()
    assert full.features() == pytest.approx(submodel_work(config, config.largest, 50).features())
    with pytest.raises(ValueError, match=r"budget is 0\.001; it must lie between 0\.0\d+"):
        dataclasses.replace(DEPLOYMENT, budget=0.001).work()
    with pytest.raises(ValueError, match="and 1, the full network"):
        dataclasses.replace(DEPLOYMENT, budget=1.1).work()


def test_without_a_budget_a_third_or_the_least_there_is() -> None:
    assert DEPLOYMENT.work()[1] == 0.35
    wide = dataclasses.replace(DEPLOYMENT, items=50_000_000)
    _, budget = wide.work()
    assert 0.35 < budget < 0.55
    config = wide.config
    assert wide.work()[0] == submodel_work(config, config.smallest, 50)


def test_more_of_anything_costs_more() -> None:
    def seconds(**changes: object) -> float:
        deployment = dataclasses.replace(DEPLOYMENT, budget=0.5, **changes)  # type: ignore[arg-type]
        return plan(deployment, COEFFICIENTS, rps=1, p99=10).cpu_seconds

    base = seconds()
    assert seconds(items=100_000) > base
    assert seconds(length=100) > base
    assert seconds(depth=8) > base
    assert seconds(width=256) > base


def test_twice_the_load_needs_twice_the_replicas() -> None:
    one = plan(DEPLOYMENT, COEFFICIENTS, rps=100_000, p99=0.05)
    two = plan(DEPLOYMENT, COEFFICIENTS, rps=200_000, p99=0.05)
    assert two.replicas in {2 * one.replicas, 2 * one.replicas - 1}
    assert one.rate_per_core == pytest.approx(one.utilisation / one.cpu_seconds)
    assert one.memory_per_replica == 200e6 + 700 * 10_000


def test_a_tight_objective_leaves_cores_idle() -> None:
    loose, tight = highest_utilisation(0.002, 0.5), highest_utilisation(0.002, 0.012)
    assert loose == MOST_UTILISATION
    assert 0.3 < tight < loose
    assert p99_seconds(0.002, tight) == pytest.approx(0.012)


def test_an_objective_out_of_reach_is_refused() -> None:
    with pytest.raises(ValueError, match=r"takes 60\.0 ms of a core.*raise --p99"):
        highest_utilisation(0.06, 0.05)


def test_another_machine_scales_each_part_by_its_own_probe() -> None:
    here = Probe(python=2e-4, product=1e-4, scan=5e-3)
    scaled = COEFFICIENTS.scaled(here, "another")
    assert (scaled.fixed, scaled.layer) == pytest.approx((2e-3, 2e-4))
    assert (scaled.encoder, scaled.scan) == pytest.approx((5e-11, 1e-10))
    assert scaled.machine == "another"
    assert "a test" in scaled.remark


def test_the_probe_measures_something() -> None:
    probe = run_probe()
    assert min(probe.python, probe.product, probe.scan) > 0


def test_coefficients_are_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "here.json"
    path.write_text(COEFFICIENTS.to_json(), encoding="utf-8")
    assert read_coefficients(path) == COEFFICIENTS


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"probe": {}}', "null"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"wrong\.json holds no coefficients.*fit-plan"):
        read_coefficients(path)


def test_unknown_keys_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "more.json"
    path.write_text(json.dumps({**json.loads(COEFFICIENTS.to_json()), "more": 1}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"more\.json"):
        read_coefficients(path)

"""Fit the cost model of `canet plan` to measurements, and show its error on held-out points."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.fit import errors, fit
from bench.machine import busy, machine
from bench.notes import notes
from bench.options import above, add_common, common
from bench.processes import Server
from bench.report import Report, median
from bench.routed_vs_full import measure_spent
from bench.stack import METHOD, Bench, bench
from models.capacity import (
    Coefficients,
    Probe,
    Work,
    highest_utilisation,
    mean_work,
    submodel_work,
)
from models.capacity_probe import run_probe
from models.config import Submodel

# (items, length): the fit sees the first, its error is measured on the second.
FITTED = ((3_000, 10), (3_000, 50), (30_000, 50), (300_000, 10), (300_000, 50), (1_000_000, 50))
HELD_OUT = ((10_000, 25), (100_000, 50), (500_000, 25))
_QUICK = (((300, 10), (600, 5)), ((400, 10),))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this subcommand's options."""
    add_common(parser)
    parser.set_defaults(rounds=3, seconds=2.0)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the coefficients there")
    parser.add_argument(
        "--p99", type=above(0), default=50.0, help="objective of the rates checked, ms"
    )
    parser.add_argument(
        "--no-rates", action="store_true", help="CPU seconds only: no search for highest rates"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One measurement: the work of a request, its CPU seconds, and the highest rate if sought."""

    items: int
    length: int
    asked: str
    work: Work
    seconds: float
    rate: float | None = None


def run(args: argparse.Namespace) -> None:
    """Measure the grid, fit, print measured beside predicted, and write the coefficients."""
    probe = run_probe()
    fitted_grid, held_grid = _QUICK if args.quick else (FITTED, HELD_OUT)
    memory: list[tuple[int, float]] = []
    told: tuple[str, ...] = ()
    seen: list[Point] = []
    held: list[Point] = []
    for grid, points in ((fitted_grid, seen), (held_grid, held)):
        for items, length in grid:
            args.length = length
            print(f"measuring {items:,} items, histories of {length} ...", file=sys.stderr)
            with _surroundings(args, items) as (here, server):
                p99 = None if args.no_rates or grid is fitted_grid else args.p99
                points += _points(here, server, p99, routed=grid is held_grid)
                memory.append((items, server.resident_mib() * 1024 * 1024))
                told = notes(here)
    coefficients = _coefficients(seen, held, memory, probe, args)
    if args.out is not None:
        args.out.write_text(coefficients.to_json(), encoding="utf-8")
    Report(
        name="fit-plan",
        method=(
            *METHOD,
            f"CPU: user and system time of the service process over a closed loop, medians of "
            f"{args.rounds} rounds of {args.seconds:g} s. Least squares of relative errors, no "
            "negative coefficient.",
            *told,
        ),
        machine=machine(),
        rows=[
            _row(point, coefficients, args.p99, place >= len(seen))
            for place, point in enumerate([*seen, *held])
        ],
        findings=[
            f"Error of the CPU seconds: fitted, median {coefficients.fit_median:.1%}; held out, "
            f"median {coefficients.held_out_median:.1%}, worst {coefficients.held_out_worst:.1%}.",
            _rate_finding(coefficients, args.p99),
        ],
        extra={"coefficients": coefficients.to_json()},
    ).show(as_json=args.json)


@contextlib.contextmanager
def _surroundings(args: argparse.Namespace, items: int) -> Iterator[tuple[Bench, Server]]:
    options = common(args, items=items)
    with bench(options, fixed_length=True) as here, here.service() as server:
        yield here, server


def _points(here: Bench, server: Server, p99_ms: float | None, *, routed: bool) -> list[Point]:
    """Measure the smallest, a middle one, the full network and, if asked, the routed mix."""
    served = here.model.served
    asked: dict[str, dict[str, Any] | None] = {
        one.name: {"mode": "fixed", "submodel": one.name}
        for one in (served[0], served[len(served) // 2], served[-1])
    }
    if routed:
        asked["routed"] = None
    found = []
    for name, compute in asked.items():
        here.closed(server, compute=compute, seconds=min(1.0, here.options.seconds))
        spent = [measure_spent(here, server, compute) for _ in range(here.options.rounds)]
        seconds = median([one.process_ms for one in spent]) / 1000
        rate = None
        if p99_ms is not None:
            start = 0.7 * median([one.throughput for one in spent])
            rate = here.search(server, p99_ms=p99_ms, start=start, compute=compute).rate
        mix = [
            (requests, Submodel.parse(submodel))
            for one in spent
            for submodel, requests in one.submodels.items()
        ]
        config = here.model.config
        found.append(
            Point(
                items=here.options.items,
                length=here.options.length,
                asked=name,
                work=mean_work(
                    [(count, submodel_work(config, one, config.max_length)) for count, one in mix]
                ),
                seconds=max(seconds, 1e-6),
                rate=rate,
            )
        )
    return found


def _coefficients(
    seen: list[Point],
    held: list[Point],
    memory: list[tuple[int, float]],
    probe: Probe,
    args: argparse.Namespace,
) -> Coefficients:
    fixed, layer, encoder, scan = fit(
        [point.work.features() for point in seen], [point.seconds for point in seen]
    )
    base, per_item = fit([(1.0, float(items)) for items, _ in memory], [b for _, b in memory])
    values: dict[str, Any] = {
        "machine": machine(),
        "remark": busy() or "an idle machine",
        "points": len(seen),
        "held_out": len(held),
        "fixed": fixed,
        "layer": layer,
        "encoder": encoder,
        "scan": scan,
        "memory_base": base,
        "memory_per_item": per_item,
        "emb_width": common(args, items=1).emb_width,
        "probe": probe,
    }
    unknown: dict[str, Any] = {"fit_median": 0.0, "held_out_median": 0.0, "held_out_worst": 0.0}
    draft = Coefficients(**values, **unknown, rate_median=0.0, rate_worst=0.0)
    on_fit = errors([_seconds(draft, p) for p in seen], [p.seconds for p in seen])
    on_held = errors([_seconds(draft, p) for p in held], [p.seconds for p in held])
    with_rate = [point for point in held if point.rate]
    rates = [(_rate(draft, point, args.p99), point.rate or 0.0) for point in with_rate]
    on_rate = errors([a for a, _ in rates], [b for _, b in rates]) if rates else None
    return Coefficients(
        **values,
        fit_median=on_fit.median,
        held_out_median=on_held.median,
        held_out_worst=on_held.worst,
        rate_median=on_rate.median if on_rate else None,
        rate_worst=on_rate.worst if on_rate else None,
    )


def _rate_finding(coefficients: Coefficients, p99_ms: float) -> str:
    if coefficients.rate_median is None:
        return "No highest rate was measured."
    return (
        f"Error of the highest rate with p99 <= {p99_ms:g} ms, held out: median "
        f"{coefficients.rate_median:.1%}, worst {coefficients.rate_worst:.1%}."
    )


def _seconds(coefficients: Coefficients, point: Point) -> float:
    return sum(coefficients.seconds(point.work).values())


def _rate(coefficients: Coefficients, point: Point, p99_ms: float) -> float:
    """Return the predicted highest rate of one core, 0 when the objective is out of reach."""
    service = _seconds(coefficients, point)
    try:
        return highest_utilisation(service, p99_ms / 1000) / service
    except ValueError:
        return 0.0


def _row(point: Point, coefficients: Coefficients, p99_ms: float, held: bool) -> dict[str, Any]:
    predicted = _seconds(coefficients, point)
    return {
        "items": point.items,
        "length": point.length,
        "asked": point.asked,
        "fitted": "held out" if held else "yes",
        "CPU ms": 1e3 * point.seconds,
        "predicted": 1e3 * predicted,
        "off": f"{predicted / point.seconds - 1:+.0%}",
        f"rate /s at p99 {p99_ms:g} ms": point.rate,
        "predicted rate": _rate(coefficients, point, p99_ms) if point.rate is not None else None,
    }

"""Open loop: requests are due by the clock, and latency counts from the due time.

A generator that waits for answers before it sends again would leave out exactly the requests
that a slow moment delays (coordinated omission). Here the schedule is fixed before the first
request is sent; what finds no free connection waits, and its wait is latency.
"""

from __future__ import annotations

import argparse

from bench.client.job import Arrivals, Outcome
from bench.machine import machine
from bench.notes import notes
from bench.options import above, add_common, common
from bench.processes import Server
from bench.report import Report, median, spread
from bench.stack import METHOD, Bench, bench


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this subcommand's options."""
    add_common(parser)
    parser.add_argument(
        "--p99", type=above(0), default=50.0, help="objective, milliseconds (%(default)s)"
    )
    parser.add_argument(
        "--rate",
        type=above(0),
        action="append",
        metavar="PER_SECOND",
        help="measure this arrival rate instead of searching; may be given again",
    )
    parser.add_argument(
        "--arrivals",
        choices=("constant", "poisson"),
        default="constant",
        help="gaps between requests: all equal, or independent (default: %(default)s)",
    )
    parser.add_argument(
        "--full", action="store_true", help="ask for the full network instead of the routed one"
    )


def run(args: argparse.Namespace) -> None:
    """Measure given rates, or search for the highest that holds the objective."""
    options = common(args)
    compute = {"mode": "full"} if args.full else None
    with bench(options) as here, here.service() as server:
        here.closed(server, compute=compute)  # warm-up
        if args.rate:
            rows, rounds = _rates(here, server, args.rate, args.p99, compute, args.arrivals)
            findings: list[str] = []
        else:
            rows, rounds, findings = _search(here, server, args.p99, compute, args.arrivals)
        Report(
            name=f"load: {options.items:,} items, {'full' if args.full else 'routed'}",
            method=(
                *METHOD,
                f"Open loop, {args.arrivals} arrivals, latency from the due time; "
                f"{options.rounds} rounds of {options.seconds:g} s or more.",
                *notes(here),
            ),
            machine=machine(),
            rows=rows,
            findings=findings,
            rounds=rounds,
        ).show(as_json=options.json)


def _rates(
    here: Bench,
    server: Server,
    rates: list[float],
    p99_ms: float,
    compute: dict[str, str] | None,
    arrivals: Arrivals,
) -> tuple[list[dict[str, str | float | int]], list[dict[str, float]]]:
    seen: dict[float, list[Outcome]] = {rate: [] for rate in rates}
    for _ in range(here.options.rounds):
        for rate in rates:
            seen[rate].append(here.open(server, rate, compute=compute, arrivals=arrivals))
    rows: list[dict[str, str | float | int]] = []
    for rate, outcomes in seen.items():
        rows.append(
            {
                "rate /s": rate,
                "p50 ms": median([o.p50_ms for o in outcomes]),
                "p90 ms": median([o.p90_ms for o in outcomes]),
                "p99 ms": median([o.p99_ms for o in outcomes]),
                "p99 range": spread([o.p99_ms for o in outcomes]),
                "failed": sum(o.failed for o in outcomes),
                "degraded": sum(o.degraded for o in outcomes),
                f"held {p99_ms:g} ms": f"{sum(o.holds(p99_ms) for o in outcomes)} of "
                f"{len(outcomes)}",
                "generator CPU": f"{median([o.client_cpu_share for o in outcomes]):.0%}",
                "send lag p99 ms": median([o.send_lag_p99_ms for o in outcomes]),
            }
        )
    rounds = [{"rate": rate, "p99_ms": o.p99_ms} for rate, all_ in seen.items() for o in all_]
    return rows, rounds


def _search(
    here: Bench,
    server: Server,
    p99_ms: float,
    compute: dict[str, str] | None,
    arrivals: Arrivals,
) -> tuple[list[dict[str, str | float | int]], list[dict[str, float]], list[str]]:
    start = 0.7 * here.closed(server, compute=compute).throughput
    found = []
    for _ in range(here.options.rounds):
        found.append(
            here.search(server, p99_ms=p99_ms, start=start, compute=compute, arrivals=arrivals)
        )
        start = found[-1].rate or start / 2
    rates = [one.rate for one in found]
    outcomes = [one.outcome for one in found if one.outcome is not None]
    row: dict[str, str | float | int] = {
        "objective": f"p99 <= {p99_ms:g} ms",
        "highest rate /s": median(rates),
        "range": spread(rates),
        "p50 ms there": median([o.p50_ms for o in outcomes]) if outcomes else "-",
        "p99 ms there": median([o.p99_ms for o in outcomes]) if outcomes else "-",
        "generator CPU": f"{max(o.client_cpu_share for o in outcomes):.0%}" if outcomes else "-",
    }
    findings = [] if outcomes else ["No rate that was tried held the objective."]
    return [row], [{"rate": rate} for rate in rates], findings

"""How latency, throughput and memory follow the size of the catalog."""

from __future__ import annotations

import argparse
from typing import Any

from bench.machine import machine
from bench.notes import notes
from bench.options import above, add_common, common, sizes_of
from bench.processes import Server
from bench.report import Report, median
from bench.routed_vs_full import MODES, measure_spent
from bench.stack import METHOD, Bench, bench


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this subcommand's options."""
    add_common(parser, sizes="3000,10000,100000,1000000")
    parser.add_argument(
        "--p99", type=above(0), default=50.0, help="objective, milliseconds (%(default)s)"
    )


def run(args: argparse.Namespace) -> None:
    """Measure every size in turn, routed and full, and print one table."""
    rows: list[dict[str, Any]] = []
    told: tuple[str, ...] = ()
    for items in sizes_of(args):
        options = common(args, items=items)
        with bench(options) as here, here.service() as server:
            rows += [_row(here, server, mode, args.p99) for mode in MODES]
            told = notes(here)
    Report(
        name="catalog",
        method=(
            *METHOD,
            "Lone requests: one connection, one at a time. CPU: closed loop of "
            f"{options.connections} connections. Highest rate: open loop, p99 <= {args.p99:g} ms. "
            f"{options.rounds} rounds of {options.seconds:g} s, medians. Memory: the service "
            "process's resident set after the load, and its peak since the start.",
            *told,
        ),
        machine=machine(),
        rows=rows,
    ).show(as_json=options.json)


def _row(here: Bench, server: Server, mode: str, p99_ms: float) -> dict[str, Any]:
    compute = MODES[mode]
    rounds = range(here.options.rounds)
    here.closed(server, compute=compute, seconds=min(1.0, here.options.seconds))
    lone = [here.closed(server, compute=compute, connections=1) for _ in rounds]
    spent = [measure_spent(here, server, compute) for _ in rounds]
    start = 0.7 * spent[-1].throughput
    rates = []
    for _ in rounds:
        rates.append(here.search(server, p99_ms=p99_ms, start=start, compute=compute).rate)
        start = rates[-1] or start / 2
    return {
        "items": here.options.items,
        "asked": mode,
        "lone p50 ms": median([one.p50_ms for one in lone]),
        "lone p99 ms": median([one.p99_ms for one in lone]),
        "inference CPU ms": median([one.inference_ms for one in spent]),
        "process CPU ms": median([one.process_ms for one in spent]),
        "closed loop /s": median([one.throughput for one in spent]),
        f"rate /s at p99 {p99_ms:g} ms": median(rates),
        "resident MiB": server.resident_mib(),
        "peak MiB": server.peak_mib(),
    }

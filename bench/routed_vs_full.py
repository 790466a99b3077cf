"""What routing saves: the same checkpoint and users, asked routed and asked full, by turns."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.machine import machine
from bench.notes import notes
from bench.options import above, add_common, common, shares_of, sizes_of
from bench.processes import Server
from bench.report import Report, median
from bench.stack import METHOD, Bench, Counters, bench

MODES: Mapping[str, dict[str, str] | None] = {"routed": None, "full": {"mode": "full"}}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this subcommand's options."""
    add_common(parser, sizes="10000", several_shares="0.1,0.2,0.35")
    parser.add_argument(
        "--p99", type=above(0), default=50.0, help="objective of the throughput, ms (%(default)s)"
    )
    parser.add_argument(
        "--no-throughput",
        action="store_true",
        help="CPU seconds and FLOPs only, without the search for the highest rate",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What one closed loop spent per request."""

    inference_ms: float
    process_ms: float
    flops: float
    flops_full: float
    encoder: float
    encoder_full: float
    throughput: float
    submodels: Mapping[str, float]


def run(args: argparse.Namespace) -> None:
    """Measure every share at every catalog size and print one table."""
    rows: list[dict[str, Any]] = []
    rounds: list[dict[str, Any]] = []
    findings: list[str] = []
    told: tuple[str, ...] = ()
    for items in sizes_of(args):
        options = common(args, items=items)
        with bench(options, fixed_length=True) as here:
            for share in shares_of(args):
                with here.service(CANET_PRICE=repr(here.price(share))) as server:
                    spent, rates = _measure(here, server, args.p99, not args.no_throughput)
                row, finding = _compare(items, share, spent, rates, args.p99)
                rows.append(row)
                findings.append(finding)
                rounds += [
                    {"items": items, "share": share, "mode": mode}
                    | {"inference_ms": one.inference_ms, "process_ms": one.process_ms}
                    | {"throughput": one.throughput}
                    for mode, all_ in spent.items()
                    for one in all_
                ]
            told = notes(here)
    Report(
        name=f"routed-vs-full: {args.depth} layers of width {args.width}, length {args.length}",
        method=(
            *METHOD,
            f"CPU: closed loop of {options.connections} connections, {options.seconds:g} s each, "
            f"routed and full by turns over {options.rounds} rounds, medians. Inference is "
            "canet_inference_cpu_seconds_total, process is user and system time of /proc, FLOPs "
            "are the service's counters, router included. Every share has a price of its own "
            f"(CANET_PRICE). Throughput: the highest open-loop rate with p99 <= {args.p99:g} ms, "
            "searched in every round.",
            *told,
        ),
        machine=machine(),
        rows=rows,
        findings=findings,
        rounds=rounds,
    ).show(as_json=options.json)


def _measure(
    here: Bench, server: Server, p99_ms: float, throughput: bool
) -> tuple[dict[str, list[Spent]], dict[str, list[float]]]:
    spent: dict[str, list[Spent]] = {mode: [] for mode in MODES}
    rates: dict[str, list[float]] = {mode: [] for mode in MODES}
    for compute in MODES.values():
        here.closed(server, compute=compute, seconds=min(1.0, here.options.seconds))
    for _ in range(here.options.rounds):
        for mode, compute in MODES.items():
            spent[mode].append(measure_spent(here, server, compute))
            if throughput:
                start = rates[mode][-1] if rates[mode] else 0.7 * spent[mode][-1].throughput
                found = here.search(server, p99_ms=p99_ms, start=start, compute=compute)
                rates[mode].append(found.rate or start / 2)
    return spent, rates


def measure_spent(here: Bench, server: Server, compute: Mapping[str, Any] | None) -> Spent:
    """Run one closed loop and return what the service's counters and /proc say of it."""
    before, cpu = Counters.of(server), server.cpu_seconds()
    outcome = here.closed(server, compute=compute)
    used = server.cpu_seconds() - cpu
    rise = Counters.of(server).since(before)
    answers = outcome.requests
    flops, base = "canet_compute_flops_total", "canet_compute_baseline_flops_total"
    return Spent(
        inference_ms=1e3 * rise.total("canet_inference_cpu_seconds_total") / answers,
        process_ms=1e3 * used / answers,
        flops=rise.total(flops) / answers,
        flops_full=rise.total(base) / answers,
        encoder=rise.total(flops, "encoder") / answers,
        encoder_full=rise.total(base, "encoder") / answers,
        throughput=outcome.throughput,
        submodels=rise.by_label("canet_submodel_requests_total"),
    )


def _compare(
    items: int,
    share: float,
    spent: dict[str, list[Spent]],
    rates: dict[str, list[float]],
    p99_ms: float,
) -> tuple[dict[str, Any], str]:
    routed, full = spent["routed"], spent["full"]
    flops = median([one.flops / one.flops_full for one in routed])
    inference = median([a.inference_ms / b.inference_ms for a, b in zip(routed, full, strict=True)])
    process = median([a.process_ms / b.process_ms for a, b in zip(routed, full, strict=True)])
    closed = median([a.throughput / b.throughput for a, b in zip(routed, full, strict=True)])
    row: dict[str, Any] = {
        "items": items,
        "encoder share asked": f"{share:.0%}",
        "FLOPs, of full": f"{flops:.1%}",
        "inference CPU, of full": f"{inference:.1%}",
        "apart, points": 100 * (inference - flops),
        "inference ms routed": median([one.inference_ms for one in routed]),
        "full": median([one.inference_ms for one in full]),
        "process CPU, of full": f"{process:.1%}",
        "process ms routed": median([one.process_ms for one in routed]),
        "closed loop": f"x{closed:.2f}",
    }
    if rates["routed"]:
        row["rate routed"] = median(rates["routed"])
        row["rate full"] = median(rates["full"])
        gain = median([a / b for a, b in zip(rates["routed"], rates["full"], strict=True)])
        row[f"at p99 {p99_ms:g} ms"] = f"x{gain:.2f}"
    mix = _mix(routed)
    told = f"{items:,} items, {share:.0%} asked: routed, the answers came from {mix}."
    return row, told


def _mix(routed: list[Spent]) -> str:
    sums: dict[str, float] = {}
    for one in routed:
        for name, requests in one.submodels.items():
            sums[name] = sums.get(name, 0.0) + requests
    total = sum(sums.values())
    shares = sorted(sums.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{name} {count / total:.0%}" for name, count in shares)

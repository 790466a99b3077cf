"""How near the service comes to the null handler: the same stack, Redis read and answer size."""

from __future__ import annotations

import argparse
import json

import httpx

from bench.client.job import Outcome
from bench.machine import machine
from bench.notes import notes
from bench.options import add_common, common
from bench.processes import Server, free_port, python, running
from bench.report import Report, median, spread
from bench.stack import METHOD, K, bench

ML_1M_ITEMS = 3416


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this subcommand's options."""
    add_common(parser, items=ML_1M_ITEMS)


def run(args: argparse.Namespace) -> None:
    """Measure service and null handler by turns; both servers are up, one is asked at a time."""
    options = common(args)
    with bench(options) as here, here.service() as service:
        answer = _answer(service, here.histories.user_ids[0])
        path, port = here.directory / "answer.json", free_port()
        path.write_bytes(answer)
        command = ("-m", "bench.null_service", "--redis", here.redis_url, "--port", str(port))
        with running(
            "the null handler",
            python(*command, "--answer", str(path)),
            port=port,
            log=here.directory / "null.log",
            environ={},
            cores=here.cores.server,
        ) as null:
            servers = {"null handler": null, "service, routed": service}
            seen: dict[str, list[Outcome]] = {name: [] for name in servers}
            cpu: dict[str, list[float]] = {name: [] for name in servers}
            for server in servers.values():
                here.closed(server, seconds=min(1.0, options.seconds))
            for _ in range(options.rounds):
                for name, server in servers.items():
                    used = server.cpu_seconds()
                    seen[name].append(here.closed(server))
                    cpu[name].append(1e3 * (server.cpu_seconds() - used) / seen[name][-1].requests)
        told = notes(here)
    ratios = [
        ours.throughput / theirs.throughput
        for ours, theirs in zip(seen["service, routed"], seen["null handler"], strict=True)
    ]
    cpu_ratios = [
        theirs / ours
        for ours, theirs in zip(cpu["service, routed"], cpu["null handler"], strict=True)
    ]
    Report(
        name=f"ceiling: {options.items:,} items",
        method=(
            *METHOD,
            f"Closed loop of {options.connections} connections, {options.seconds:g} s each, by "
            f"turns over {options.rounds} rounds, medians. The null handler parses the body, does "
            f"the same Redis read and sends a constant of {len(answer)} bytes.",
            *told,
        ),
        machine=machine(),
        rows=[
            {
                "server": name,
                "requests /s": median([one.throughput for one in outcomes]),
                "range": spread([one.throughput for one in outcomes]),
                "p50 ms": median([one.p50_ms for one in outcomes]),
                "p99 ms": median([one.p99_ms for one in outcomes]),
                "CPU ms": median(cpu[name]),
                "generator CPU": f"{median([one.client_cpu_share for one in outcomes]):.0%}",
            }
            for name, outcomes in seen.items()
        ],
        findings=[
            f"Share of the ceiling: {median(ratios):.2f} ({spread(ratios)}).",
            f"The null handler's CPU time over the service's: {median(cpu_ratios):.2f} "
            f"({spread(cpu_ratios)}); others on the machine move it less than the rates.",
        ],
        rounds=[
            {"share": share, "cpu_share": cpu_share}
            for share, cpu_share in zip(ratios, cpu_ratios, strict=True)
        ],
    ).show(as_json=options.json)


def _answer(service: Server, user: str) -> bytes:
    """Return one real answer of the service: the constant has its size."""
    body = json.dumps({"user_id": user, "k": K})
    response = httpx.post(
        f"{service.url}/recommend",
        content=body,
        headers={"content-type": "application/json"},
        timeout=60,
    )
    return response.raise_for_status().content

"""The same full network served by others, as their documentation recommends."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from bench.machine import machine
from bench.notes import notes
from bench.options import above, add_common, common
from bench.peer_servers.network import UserHistories
from bench.processes import Server, free_port, paused, python, running
from bench.report import Report, median, spread
from bench.stack import METHOD, Bench, bench
from bench.synthetic_checkpoint import item_id

PEERS = {"plain FastAPI": "plain_fastapi", "LitServe": "lit"}
_LIBRARIES = {"plain FastAPI": "fastapi", "LitServe": "litserve"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One server and how it is asked."""

    server: Server
    compute: Mapping[str, Any] | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this subcommand's options."""
    add_common(parser)
    parser.add_argument(
        "--p99", type=above(0), default=50.0, help="objective, milliseconds (%(default)s)"
    )
    parser.add_argument(
        "--peer", choices=PEERS, action="append", help="this peer only; may be given again"
    )


def run(args: argparse.Namespace) -> None:
    """Measure the service, routed and full, and every peer, by turns."""
    options = common(args)
    peers = args.peer or list(PEERS)
    for name in peers:
        if importlib.util.find_spec(_LIBRARIES[name]) is None:
            raise ValueError(f"{name} is not installed; pip install 'canet-serve[bench]'")
    with bench(options) as here, ExitStack() as servers:
        users = UserHistories(here.redis_url)
        for user, history in zip(here.histories.user_ids, here.histories.rows, strict=True):
            users.write(user, [item_id(row) for row in history])
        service = servers.enter_context(here.service())
        subjects = {
            "canet serve, routed": Subject(server=service, compute=None),
            "canet serve, full": Subject(server=service, compute={"mode": "full"}),
        }
        for name in peers:
            server = servers.enter_context(_peer(here, name))
            subjects[name] = Subject(server=server, compute=None)
        rates, closed, shares = _measure(here, subjects, args.p99)
        told = notes(here)
    rows: list[dict[str, str | float]] = []
    for name in subjects:
        ahead = [
            ours / theirs if theirs else float("inf")
            for ours, theirs in zip(rates["canet serve, routed"], rates[name], strict=True)
        ]
        rows.append(
            {
                "server": name,
                f"rate /s at p99 {args.p99:g} ms": median(rates[name]),
                "range": spread(rates[name]),
                "routed service ahead": f"x{median(ahead):.2f}",
                "closed loop /s": median(closed[name]),
                "generator CPU": f"{max(shares[name]):.0%}",
            }
        )
    versions = ", ".join(
        f"{_LIBRARIES[p]} {importlib.metadata.version(_LIBRARIES[p])}" for p in peers
    )
    Report(
        name=f"peers: {options.items:,} items, full network of {options.depth} layers",
        method=(
            *METHOD,
            "All servers are on the same core, one is asked at a time while the others are "
            f"stopped, by turns over {options.rounds} rounds, medians; highest open-loop rate with "
            f"p99 <= {args.p99:g} ms. Peers ({versions}) run the checkpoint's full network in "
            "eager torch, one thread, read the same histories from Redis lists and answer with ids "
            "and ranks only; LitServe batches up to 16 within 2 ms, FastAPI calls torch per "
            "request in its thread pool.",
            *told,
        ),
        machine=machine(),
        rows=rows,
        rounds=[{"server": name, "rates": rates[name]} for name in subjects],
    ).show(as_json=options.json)


@contextmanager
def _peer(here: Bench, name: str) -> Iterator[Server]:
    port, module = free_port(), PEERS[name]
    with running(
        name,
        python(
            "-m",
            f"bench.peer_servers.{module}",
            *("--models", str(here.root), "--redis", here.redis_url, "--port", str(port)),
        ),
        port=port,
        log=here.directory / f"{module}.log",
        environ={},
        cores=here.cores.server,
        ready="/health",
    ) as server:
        yield server


Numbers = dict[str, list[float]]


def _measure(
    here: Bench, subjects: Mapping[str, Subject], p99_ms: float
) -> tuple[Numbers, Numbers, Numbers]:
    rates: Numbers = {name: [] for name in subjects}
    closed: Numbers = {name: [] for name in subjects}
    shares: Numbers = {name: [] for name in subjects}
    servers = {one.server for one in subjects.values()}
    for _ in range(here.options.rounds):
        for name, one in subjects.items():
            with paused(servers - {one.server}):
                # Whoever was stopped has pings and timers to see to first.
                here.closed(one.server, compute=one.compute, seconds=min(1.0, here.options.seconds))
                outcome = here.closed(one.server, compute=one.compute)
                start = rates[name][-1] if rates[name] and rates[name][-1] else None
                found = here.search(
                    one.server,
                    p99_ms=p99_ms,
                    start=start or 0.7 * outcome.throughput,
                    compute=one.compute,
                )
            closed[name].append(outcome.throughput)
            shares[name].append(outcome.client_cpu_share)
            rates[name].append(found.rate)
    return rates, closed, shares

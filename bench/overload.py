"""More than the service can take: shrinking networks and then refusing, against refusing alone."""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import uvloop

from bench.client.connection import Connection, prepare
from bench.machine import machine, pinned
from bench.notes import notes
from bench.options import above, add_common, common
from bench.processes import Server
from bench.report import Report, median
from bench.stack import METHOD, Bench, bench
from service.settings import Settings

POLICIES = ("shrink_then_shed", "shed")
_MOST_CONNECTIONS = 2000
_PROBE_SECONDS = 0.05
_RECOVERY_SECONDS = 30.0
_UNBOUNDED = Settings.model_fields["queue_limit"].default


@dataclass(slots=True)
class Flood:
    """What an open loop saw; latencies in seconds from the due time, of answers with 200."""

    latencies: list[float] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)
    """How late requests were sent, seconds: of latency this is the generator's own share."""
    resident_mib: list[float] = field(default_factory=list)
    """The server's memory, about once a second."""
    ended: float = 0.0
    """When the last request was sent, on the monotonic clock."""
    sent: int = 0
    refused: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    """Everything else, by status or by what became of it."""
    shrunk: int = 0

    @property
    def p99_ms(self) -> float:
        """The 99th percentile of the admitted, milliseconds; endless when there are none."""
        if len(self.latencies) < 2:
            return float("inf")
        return statistics.quantiles(self.latencies, n=100)[98] * 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this subcommand's options."""
    add_common(parser)
    parser.add_argument(
        "--p99", type=above(0), default=100.0, help="objective, milliseconds (%(default)s)"
    )
    parser.add_argument(
        "--times", type=above(0), default=3.0, help="load over the sustainable rate (%(default)s)"
    )
    parser.add_argument(
        "--sustainable",
        type=above(0),
        metavar="PER_SECOND",
        help="take this rate for the sustainable one instead of searching for it",
    )
    parser.add_argument(
        "--minutes", type=above(0), default=5.0, help="how long each flood lasts (%(default)s)"
    )


def run(args: argparse.Namespace) -> None:
    """Find the sustainable rate, then flood one fresh service per policy with a multiple."""
    options = common(args)
    seconds = 2.0 if options.quick else args.minutes * 60
    with bench(options) as here:
        with here.service() as server:
            here.closed(server)  # warm-up
            before = here.closed(server).throughput
            sustainable = args.sustainable or (
                here.search(server, p99_ms=args.p99, start=0.7 * before).rate
            )
        if not sustainable:
            raise RuntimeError(f"no rate held {args.p99:g} ms; try a higher --p99")
        rate = args.times * sustainable
        rows = [_row(here, policy, rate, seconds, args.p99) for policy in POLICIES]
        with here.service() as server:
            here.closed(server)  # warm-up
            after = here.closed(server).throughput
        capacity = (before + after) / 2
        for row in rows:
            row["of capacity"] = f"{row['answered /s'] / capacity:.0%}"
        Report(
            name=f"overload: {options.items:,} items, {args.times:g} times {sustainable:.0f} /s",
            method=(
                *METHOD,
                f"Sustainable: the highest rate whose p99 holds {args.p99:g} ms without "
                "protection. Then a fresh service per policy, open loop, latency of admitted "
                "requests from the due time; recovery: from the last request sent until the price "
                "is as set and no bound holds. Of capacity: answers over those of a closed loop "
                "without protection, the mean of one before and one after the floods; smaller "
                "networks may answer more than that. Shrank and refused: seconds until networks "
                "shrank and until the first 429. Memory: before the flood, after its first fifth, "
                "at its end.",
                *notes(here),
            ),
            machine=machine(),
            rows=rows,
            findings=_findings((before, after), sustainable, rate),
        ).show(as_json=options.json)


def _findings(capacity: tuple[float, float], sustainable: float, rate: float) -> list[str]:
    """Return the rates, and whether what was offered was too much at all."""
    told = [
        f"Capacity {capacity[0]:.0f} /s before and {capacity[1]:.0f} /s after, sustainable "
        f"{sustainable:.0f} /s, offered {rate:.0f} /s."
    ]
    if rate < 1.2 * max(capacity):
        told.append("What was offered is no overload: give a higher --times.")
    return told


def _row(here: Bench, policy: str, rate: float, seconds: float, p99_ms: float) -> dict[str, Any]:
    settings = {"CANET_OVERLOAD_POLICY": policy, "CANET_OBJECTIVE_MS": f"{p99_ms:g}"}
    log = here.directory / "service.log"
    with here.service(**settings) as server:
        here.closed(server)  # warm-up
        _recover(server, since=time.monotonic())
        before, written, began = server.resident_mib(), log.stat().st_size, time.time()
        with pinned(here.cores.others):
            seen = uvloop.run(_flood(server, here.bodies(), rate, seconds))
        recovery = _recover(server, since=seen.ended)
    good = len(seen.latencies) / seconds
    within = sum(latency * 1000 <= p99_ms for latency in seen.latencies) / seconds
    shrank, refused = _first(log, written, ("networks shrink", '"status":429'))
    held = seen.resident_mib or [before]
    memory = (before, held[len(held) // 5], held[-1])
    return {
        "policy": policy,
        "offered /s": round(rate),
        "answered /s": round(good, 1),
        "of capacity": "",  # known when all floods are over
        f"within {p99_ms:g} ms /s": round(within, 1),
        "p50 ms": round(median(seen.latencies) * 1000, 1) if seen.latencies else "-",
        "p99 ms": round(seen.p99_ms, 1),
        "send lag p99 ms": round(statistics.quantiles(seen.lags, n=100)[98] * 1000, 1),
        "429": seen.refused,
        "other failures": ", ".join(f"{n} {what}" for what, n in seen.failed.items()) or "0",
        "answers shrunk": f"{seen.shrunk / max(1, len(seen.latencies)):.0%}",
        "shrank after s": "-" if shrank is None else round(shrank - began, 2),
        "refused after s": "-" if refused is None else round(refused - began, 2),
        "recovery s": round(recovery, 2),
        "memory MiB": ", ".join(f"{one:.0f}" for one in memory),
    }


def _first(log: Path, start: int, words: Sequence[str]) -> list[float | None]:
    """Return when the first line with each of the words was written, Unix seconds."""
    found: dict[str, float] = {}
    with log.open("rb") as lines:
        lines.seek(start)
        for line in lines:
            for word in words:
                if word not in found and word.encode() in line:
                    found[word] = datetime.fromisoformat(json.loads(line)["time"]).timestamp()
            if len(found) == len(words):
                break
    return [found.get(word) for word in words]


async def _flood(server: Server, bodies: Sequence[str], rate: float, seconds: float) -> Flood:
    """Send request i at its time whatever became of the others; a new connection where none is."""
    seen = Flood()
    requests = [prepare("127.0.0.1", server.port, "/recommend", body) for body in bodies]
    loop = asyncio.get_running_loop()
    idle: list[Connection] = []
    due: dict[Connection, float] = {}
    open_connections = 0

    def answered(connection: Connection, status: int, body: bytes) -> None:
        was_due = due.pop(connection)
        if status == 200:
            seen.latencies.append(loop.time() - was_due)
            seen.shrunk += b'"overload"' in body
        elif status == 429:
            seen.refused += 1
        else:
            seen.failed[str(status or "broken")] += 1
        if connection.is_open:
            idle.append(connection)

    async def fresh() -> Connection:
        _, protocol = await loop.create_connection(
            lambda: Connection(answered), "127.0.0.1", server.port
        )
        return protocol

    async def watch() -> None:
        while True:
            seen.resident_mib.append(await asyncio.to_thread(server.resident_mib))
            await asyncio.sleep(min(1.0, seconds / 10))

    watching = asyncio.create_task(watch())
    begin = loop.time()
    for number in range(round(rate * seconds)):
        at = begin + number / rate
        await asyncio.sleep(max(0.0, at - loop.time()))
        seen.lags.append(max(0.0, loop.time() - at))
        seen.sent += 1
        connection = None
        while idle and connection is None:
            connection = idle.pop()
            connection = connection if connection.is_open else None
        if connection is None:
            if open_connections >= _MOST_CONNECTIONS:
                seen.failed["no connection"] += 1
                continue
            open_connections += 1
            connection = await fresh()
        due[connection] = at
        connection.send(requests[number % len(requests)])
    seen.ended = time.monotonic()
    watching.cancel()
    end = loop.time() + 30.0
    while due and loop.time() < end:  # noqa: ASYNC110 - with an end of its own
        await asyncio.sleep(0.05)
    if due:
        seen.failed["no answer"] = len(due)
    for connection in (*idle, *due):
        connection.close()
    return seen


def _recover(server: Server, *, since: float) -> float:
    """Wait until the price is as set and nothing is refused; return the seconds `since` then."""
    until = time.monotonic() + _RECOVERY_SECONDS
    while time.monotonic() < until:
        text = httpx.get(f"{server.url}/metrics", timeout=30).text
        calm = 'canet_compute_price_reason{reason="overload"} 0.0' in text
        if calm and f"canet_admission_limit {_UNBOUNDED:.1f}" in text:
            return time.monotonic() - since
        time.sleep(_PROBE_SECONDS)
    return float("inf")

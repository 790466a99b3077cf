"""Hundreds of thousands of requests of every kind, swaps in between: does anything rise?"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import redis
import uvloop

from bench.client.asker import Asker, Reply
from bench.machine import machine, pinned
from bench.notes import notes
from bench.options import add_common, common, count
from bench.processes import Server
from bench.report import Report, Value, median
from bench.slope import theil_sen
from bench.soak_mix import Ask, Mix
from bench.stack import Bench, bench
from bench.synthetic_checkpoint import publish_synthetic
from bench.usage import Usage

_KEY = "soak-key-of-all-scopes"
_WARM_UP = 0.3
_PER = 100_000
_PROGRESS_SECONDS = 15.0
_KEPT = 20
_STEPS = 5
_TRIES = 5
# A cache that is full early cannot pass for a leak; overload control off: nobody is to be refused.
_SETTINGS = {
    "CANET_API_KEYS": f"read+write+admin:{_KEY}",
    "CANET_RESULT_TTL": "60",
    "CANET_RESULT_CACHE_MB": "1",
}
_WHOLE = (b'"degraded":[]', b'"degraded":["short_list"]')


@dataclass(slots=True)
class _Seen:
    """What came back, and what the server held meanwhile."""

    answers: Counter[str] = field(default_factory=Counter)
    unexpected: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    again: int = 0
    """Requests sent again after a 503 that asked for it."""
    swaps: int = 0
    samples: list[tuple[int, Usage]] = field(default_factory=list)

    @property
    def requests(self) -> int:
        return self.answers.total()

    def fault(self, name: str, what: str) -> None:
        self.unexpected[name] += 1
        if len(self.examples) < _KEPT:
            self.examples.append(f"{name}: {what}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this subcommand's options."""
    add_common(parser, items=3000)
    parser.add_argument(
        "--requests", type=count, default=1_000_000, help="how many in all (%(default)s)"
    )
    parser.add_argument(
        "--swaps", type=count, default=100, help="reloads and rollbacks meanwhile (%(default)s)"
    )


def run(args: argparse.Namespace) -> None:
    """Send the mix, sample the server, tell the slopes; RuntimeError on an unexpected answer."""
    options = common(args)
    requests = min(args.requests, 600) if options.quick else args.requests
    swaps = min(args.swaps, 3) if options.quick else args.swaps
    with bench(options) as here:
        versions = [
            publish_synthetic(here.root, replace(here.model, seed=seed), here.histories)
            for seed in (1, 2)
        ]
        with here.service(**_SETTINGS) as server, pinned(here.cores.others):
            began = time.perf_counter()
            seen = uvloop.run(_Soak(here, server, versions, requests, swaps).run())
            seconds = time.perf_counter() - began
        told = notes(here)
    rows = [_row(name, seen.samples) for name in _MEASURES]
    Report(
        name=f"soak: {seen.requests:,} requests, {seen.swaps} swaps",
        method=(
            f"{options.connections} callers, each with users of its own, ask as fast as they are "
            "answered: recommendations by user and by session, events, deletions, merges, "
            "replacements, batches, wrong requests, callers who leave; the result cache is on and "
            "small. Versions are swapped and rolled back, a candidate comes and goes.",
            f"The first {_WARM_UP:.0%} of the samples are warm-up and left out. Slope: Theil-Sen "
            f"over the medians of up to 40 stretches, per {_PER:,} requests, with its 95 % "
            "interval; it is told from zero when the interval leaves zero out.",
            *told,
        ),
        machine=machine(),
        rows=rows,
        findings=_findings(seen, rows, seconds),
        rounds=[{"requests": done, **usage.to_json()} for done, usage in seen.samples],
        extra={"answers": dict(seen.answers), "unexpected": dict(seen.unexpected)},
    ).show(as_json=options.json)
    if seen.unexpected:
        raise RuntimeError(f"{seen.unexpected.total()} unexpected answers; see above")


class _Soak:
    """One soak of one server."""

    def __init__(
        self, here: Bench, server: Server, versions: list[str], requests: int, swaps: int
    ) -> None:
        self._here = here
        self._server = server
        self._versions = versions
        self._requests = requests
        self._swaps = swaps
        self._seen = _Seen()

    async def run(self) -> _Seen:
        callers = self._here.options.connections
        users = self._here.histories.user_ids
        with redis.Redis.from_url(self._here.redis_url) as store:
            await self._admin("PUT", "/v1/admin/traffic", {"candidate_percent": 20})
            # Once before anything counts: two models and a candidate side by side are no leak.
            for number in range(_STEPS):
                await self._step(number)
            watching = asyncio.create_task(self._watch(store))
            mixes = [
                Mix(users=users[place::callers], items=self._here.options.items, seed=place)
                for place in range(callers)
            ]
            await asyncio.gather(self._swap(), *(self._call(mix) for mix in mixes))
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        return self._seen

    @property
    def _over(self) -> bool:
        return self._seen.requests >= self._requests

    def _asker(self) -> Asker:
        return Asker(self._server.port, headers={"X-API-Key": _KEY})

    async def _call(self, mix: Mix) -> None:
        asker = self._asker()
        while not self._over:
            ask = mix.next()
            self._seen.answers[ask.name] += 1
            try:
                if ask.leaves:
                    await asker.hang_up(ask.method, ask.path, ask.content)
                    continue
                self._judge(ask, await self._asked(asker, ask))
            except OSError as error:
                self._seen.fault(ask.name, repr(error))
                await asyncio.sleep(0.1)
        asker.close()

    async def _asked(self, asker: Asker, ask: Ask) -> Reply:
        """Return the answer; where the store was too slow, that to the same request sent again."""
        for _ in range(_TRIES):
            reply = await asker.ask(ask.method, ask.path, ask.content)
            if reply.status != 503 or b'"store_unavailable"' not in reply.body:
                break
            self._seen.again += 1
            await asyncio.sleep(float(reply.header("retry-after") or 1))
        return reply

    def _judge(self, ask: Ask, reply: Reply) -> None:
        if reply.status not in ask.expected:
            self._seen.fault(ask.name, f"{reply.status} {reply.body[:300]!r}")
        elif b'"degraded":' in reply.body and not any(one in reply.body for one in _WHOLE):
            self._seen.fault(ask.name, f"degraded {reply.body[:300]!r}")

    async def _swap(self) -> None:
        """Take the steps, evenly spread."""
        for number in range(self._swaps):
            due = (number + 1) * self._requests // (self._swaps + 1)
            while self._seen.requests < due:  # noqa: ASYNC110 - the callers count
                await asyncio.sleep(0.02)
            if self._over:
                break  # the last one took until the end
            await self._step(number)
            self._seen.swaps += 1

    async def _step(self, number: int) -> None:
        """Reload by name, roll back, bring a candidate and send it away, in turn."""
        first, second = self._versions
        steps: list[tuple[str, Mapping[str, Any]]] = [
            ("reload", {"version": first}),
            ("reload", {"version": second}),
            ("rollback", {}),
            ("reload", {"version": second, "as": "candidate"}),
            ("unload", {"as": "candidate"}),
        ]
        step, body = steps[number % len(steps)]
        await self._admin("POST", f"/v1/admin/model/{step}", body)

    async def _admin(self, method: str, path: str, body: Mapping[str, Any]) -> None:
        asker = self._asker()
        try:
            reply = await asker.ask(method, path, json.dumps(body) if body else "")
        finally:
            asker.close()
        if reply.status not in {200, 204}:
            self._seen.fault(path, f"{reply.status} {reply.body[:300]!r}")

    async def _watch(self, store: redis.Redis) -> None:
        """Sample the server; say now and then how far it is."""
        every = 0.1 if self._here.options.quick else 1.0
        began = shown = time.perf_counter()
        before = 0
        while True:
            usage = await asyncio.to_thread(Usage.of, self._server, store)
            done = self._seen.requests
            if done > before:
                self._seen.samples.append((done, usage))
            before = done
            now = time.perf_counter()
            if now - shown >= _PROGRESS_SECONDS:
                shown = now
                print(
                    f"{done:,} of {self._requests:,} requests ({done / (now - began):.0f} /s), "
                    f"{self._seen.swaps} swaps, {self._seen.unexpected.total()} unexpected, "
                    f"{usage.resident_mib:.1f} MiB, {usage.file_descriptors} file descriptors",
                    file=sys.stderr,
                    flush=True,
                )
            await asyncio.sleep(every)


_MEASURES = {
    "resident_mib": "resident MiB",
    "file_descriptors": "file descriptors",
    "threads": "threads",
    "redis_connections": "Redis connections",
}


def _row(measure: str, samples: list[tuple[int, Usage]]) -> dict[str, Value]:
    kept = samples[int(len(samples) * _WARM_UP) :]
    done = [requests / _PER for requests, _ in kept]
    values = [float(usage.to_json()[measure]) for _, usage in kept]
    slope = theil_sen(done, values)
    fifth = max(1, len(values) // 5)
    return {
        "measure": _MEASURES[measure],
        "samples": len(values),
        "after warm-up": median(values[:fifth]),
        "at the end": median(values[-fifth:]),
        "most": max(values),
        f"per {_PER:,}": round(slope.value, 3),
        "95 %": f"{slope.low:+.3f} to {slope.high:+.3f}",
        "told from zero": "no" if slope.is_flat else "yes",
    }


def _findings(seen: _Seen, rows: list[dict[str, Value]], seconds: float) -> list[str]:
    rising = [str(row["measure"]) for row in rows if row["told from zero"] == "yes"]
    found = [
        f"{seen.requests / seconds:.0f} requests a second; unexpected answers: "
        f"{seen.unexpected.total()}; sent again because the store was slow: {seen.again}.",
        "By kind: " + ", ".join(f"{name} {n:,}" for name, n in seen.answers.most_common()) + ".",
        f"A slope is told from zero for: {', '.join(rising)}."
        if rising
        else "No slope is told from zero.",
    ]
    return [*found, *seen.examples]

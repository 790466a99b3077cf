"""What is measured: Redis, a synthetic checkpoint, users, and the service behind its command."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from bench.client.job import Arrivals, Job, Outcome
from bench.generator import Generator, generator
from bench.machine import Cores, split_cores
from bench.options import Options
from bench.processes import Server, free_port, python, running
from bench.rates import Found, highest_rate
from bench.synthetic_checkpoint import SyntheticModel, item_id, price_at, publish_synthetic
from bench.synthetic_users import Histories, make_histories, write_histories
from service.settings import Settings
from service.store.embedded import EmbeddedServer

K = 10
# What the service may remember of a user, and what the synthetic users did at most.
HISTORY_MAX = Settings.model_fields["history_max"].default
# A deadline, a slow Redis or a kept answer is less work: here every answer is the model's.
_PATIENT = {
    "CANET_DEADLINE_MS": "60000",
    "CANET_REDIS_OP_TIMEOUT_MS": "10000",
    "CANET_OVERLOAD_POLICY": "off",
    "CANET_RESULT_TTL": "0",
}
_MOST_SECONDS = 20.0
_LEAST_SAMPLES = 400
_SAMPLE = re.compile(r"^(canet_\w+)(?:\{(.*)\})? (\S+)$")

METHOD = (
    "Servers run as processes of their own; the load generator is another, over keep-alive "
    "HTTP/1.1, each user in turn, histories in Redis (embedded server, Unix socket).",
    "Deadlines are 60 s, overload policy and result cache are off, so that every answer is the "
    "network's that was asked for; answers that failed or lacked something count as endless.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The surroundings of the servers: cores, Redis, generator, users, a directory."""

    cores: Cores
    redis_url: str
    load: Generator
    directory: Path
    options: Options
    histories: Histories
    root: Path
    version: str
    model: SyntheticModel
    _places: list[int] = field(default_factory=lambda: [0])

    def bodies(self, compute: Mapping[str, Any] | None = None) -> tuple[str, ...]:
        """Return one request body per user, with this `compute` if any."""
        more = {} if compute is None else {"compute": dict(compute)}
        return tuple(
            json.dumps({"user_id": user, "k": K, **more}) for user in self.histories.user_ids
        )

    def price(self, encoder_share: float) -> float:
        """Return the price (CANET_PRICE) at which these users spend this share of the encoder."""
        return price_at(self.root / self.version, self.histories, encoder_share)

    def closed(
        self,
        server: Server,
        *,
        path: str = "/recommend",
        compute: Mapping[str, Any] | None = None,
        seconds: float | None = None,
        connections: int | None = None,
    ) -> Outcome:
        """Run one closed loop; every connection asks again as soon as it was answered."""
        outcome = self.load.run(
            Job(
                port=server.port,
                path=path,
                bodies=self.bodies(compute),
                seconds=seconds or self.options.seconds,
                connections=connections or self.options.connections,
                first=self._places[0],
            )
        )
        self._places[0] += outcome.requests
        _check_source(outcome)
        if not outcome.good:
            raise RuntimeError(f"{server.name} answered no request: {dict(outcome.statuses)}")
        return outcome

    def open(
        self,
        server: Server,
        rate: float,
        *,
        path: str = "/recommend",
        compute: Mapping[str, Any] | None = None,
        arrivals: Arrivals = "constant",
        seconds: float | None = None,
    ) -> Outcome:
        """Run one open loop at `rate` requests per second, long enough for a p99."""
        wanted = seconds or self.options.seconds
        if not self.options.quick:
            wanted = min(_MOST_SECONDS, max(wanted, _LEAST_SAMPLES / rate))
        outcome = self.load.run(
            Job(
                port=server.port,
                path=path,
                bodies=self.bodies(compute),
                seconds=wanted,
                connections=128,
                rate=rate,
                arrivals=arrivals,
                first=self._places[0],
            )
        )
        self._places[0] += outcome.requests
        _check_source(outcome)
        return outcome

    def search(
        self,
        server: Server,
        *,
        p99_ms: float,
        start: float,
        path: str = "/recommend",
        compute: Mapping[str, Any] | None = None,
        arrivals: Arrivals = "constant",
    ) -> Found:
        """Return the highest open-loop rate that holds `p99_ms`, searched from `start`."""
        return highest_rate(
            lambda rate: self.open(server, rate, path=path, compute=compute, arrivals=arrivals),
            p99_ms=p99_ms,
            start=start,
            most_trials=2 if self.options.quick else 8,
        )

    @contextmanager
    def service(self, **more: str) -> Iterator[Server]:
        """Yield `canet serve` on the checkpoint, ready."""
        port = free_port()
        with running(
            "canet serve",
            python("-m", "cli.main", "serve"),
            port=port,
            log=self.directory / "service.log",
            environ={
                **_PATIENT,
                "CANET_MODEL_ROOT": str(self.root),
                "CANET_REDIS_URL": self.redis_url,
                "CANET_PORT": str(port),
                "CANET_DRAIN_SECONDS": "0",
                **self.options.settings,
                **more,
            },
            cores=self.cores.server,
        ) as server:
            yield server


def _check_source(outcome: Outcome) -> None:
    """Answers from a cache measure no network: RuntimeError."""
    cached = outcome.sources.get("cache", 0)
    if cached:
        raise RuntimeError(
            f"{cached} of {outcome.requests} answers came from the cache of answers; switch it "
            "off with --set, or ask with more --users"
        )


@contextmanager
def bench(options: Options, *, fixed_length: bool = False) -> Iterator[Bench]:
    """Yield Redis with users, a published checkpoint and an idle load generator.

    Everything lives in a temporary directory and is gone afterwards.
    """
    cores = split_cores()
    model = SyntheticModel(
        items=options.items,
        depth=options.depth,
        width=options.width,
        emb_width=options.emb_width,
        length=options.length,
        encoder_share=options.encoder_share,
    )
    histories = make_histories(
        users=options.users,
        items=options.items,
        length=options.length,
        most=HISTORY_MAX,
        fixed=fixed_length,
    )
    with tempfile.TemporaryDirectory(prefix="canet-bench-") as name:
        directory = Path(name)
        root = directory / "models"
        version = publish_synthetic(root, model, histories)
        with redis_server(directory / "redis", cores) as url, generator(cores.others) as load:
            external_ids = [item_id(row) for row in range(1, options.items + 1)]
            asyncio.run(write_histories(url, histories, external_ids))
            yield Bench(
                cores=cores,
                redis_url=url,
                load=load,
                directory=directory,
                options=options,
                histories=histories,
                root=root,
                version=version,
                model=model,
            )


@contextmanager
def redis_server(directory: Path, cores: Cores) -> Iterator[str]:
    """Yield the URL of an embedded server on the cores beside the service's; not durable."""
    from bench.machine import pinned

    with pinned(cores.others):
        server = EmbeddedServer(directory, extra_arguments=("--appendonly", "no")).start()
    try:
        yield server.url
    finally:
        server.stop()


@dataclass(frozen=True, slots=True)
class Counters:
    """The service's counters at one moment."""

    values: Mapping[tuple[str, str], float]

    @classmethod
    def of(cls, server: Server) -> Counters:
        """Read /metrics."""
        found: dict[tuple[str, str], float] = {}
        for line in httpx.get(f"{server.url}/metrics", timeout=30).text.splitlines():
            match = _SAMPLE.match(line)
            if match is not None:
                found[match[1], match[2] or ""] = float(match[3])
        return cls(found)

    def total(self, name: str, label: str = "") -> float:
        """Return the sum over the series of `name` whose labels contain `label`."""
        return sum(
            value for (own, labels), value in self.values.items() if own == name and label in labels
        )

    def since(self, before: Counters) -> Counters:
        """Return the rise of every series since `before`."""
        return Counters(
            {key: value - before.values.get(key, 0.0) for key, value in self.values.items()}
        )

    def by_label(self, name: str) -> dict[str, float]:
        """Return value by label text of the series of `name` that are not 0."""
        return {
            labels.partition('"')[2].partition('"')[0]: value
            for (own, labels), value in self.values.items()
            if own == name and value
        }

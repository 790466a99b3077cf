"""What the load generator is asked for and what it answers, as JSON lines between processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Arrivals = Literal["constant", "poisson"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One measurement.

    With a `rate` (requests per second) the loop is open: request i is due at its time whatever
    became of the others, and its latency counts from there. Without one it is closed: every
    connection sends its next request when the last was answered. `bodies` are JSON texts sent in
    turn. `give_up_seconds` ends an open loop whose oldest waiting request is that late.
    """

    port: int
    path: str
    bodies: tuple[str, ...]
    seconds: float
    connections: int = 16
    rate: float | None = None
    arrivals: Arrivals = "constant"
    host: str = "127.0.0.1"
    first: int = 0
    give_up_seconds: float = 2.0
    drain_seconds: float = 30.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("seconds", "connections", "give_up_seconds", "drain_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if self.rate is not None and not self.rate > 0:
            raise ValueError(f"rate is {self.rate}; give requests per second, above 0")
        if not self.bodies:
            raise ValueError("bodies are empty; give at least one request")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one job saw. Latencies are milliseconds.

    `failed` counts answers other than 200, broken connections and requests never answered;
    `degraded` counts 200s that lack something (`"degraded"` not empty). Both enter the latencies
    as endless. `seconds` runs from the first due time to the last answer; `client_cpu_share` is
    the generator's CPU time over that time; `send_lag_p99_ms` is how late it sent what was due
    and had a connection.
    """

    requests: int
    failed: int
    degraded: int
    gave_up: bool
    seconds: float
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    send_lag_p99_ms: float
    client_cpu_share: float
    sources: Mapping[str, int] = field(default_factory=dict)
    statuses: Mapping[str, int] = field(default_factory=dict)

    @property
    def good(self) -> int:
        """Requests answered in full."""
        return self.requests - self.failed - self.degraded

    @property
    def throughput(self) -> float:
        """Requests answered in full, per second."""
        return self.good / self.seconds

    def holds(self, p99_ms: float) -> bool:
        """Return whether 99 % were answered within `p99_ms` and none failed or was degraded."""
        return self.good == self.requests and not self.gave_up and self.p99_ms <= p99_ms

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Outcome:
        """Return the outcome that the generator wrote."""
        return cls(**values)

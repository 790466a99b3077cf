"""Where Redis is and how long anything may take."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from models.events import KEY_PREFIX

SCHEMES = ("redis", "rediss", "unix")
MAX_HISTORY = 1000  # below the 1024 tie-break steps that one millisecond holds


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisConfig:
    """Where the server is and how long anything may take. `url` may hold a password.

    A write counts as made when `wait_replicas` replicas have it, besides the server itself.
    """

    url: str = field(repr=False)
    op_timeout_seconds: float = 0.025
    write_timeout_seconds: float = 0.25
    connect_timeout_seconds: float = 0.2
    pool_wait_seconds: float = 0.05
    retry_wait_seconds: float = 0.01
    max_connections: int = 32
    history_max: int = 100
    history_ttl_seconds: int = 90 * 24 * 3600
    shown_ttl_seconds: int = 24 * 3600
    stream_max_length: int = 100_000
    breaker_failures: int = 5
    probe_seconds: float = 0.25
    wait_replicas: int = 0
    client_name: str = "canet"
    key_prefix: str = KEY_PREFIX

    def __post_init__(self) -> None:
        scheme = urlsplit(self.url).scheme
        if scheme in {"redis+cluster", "rediss+cluster"}:
            raise ValueError(
                f"Redis URL scheme {scheme!r} is not supported: history and event stream are "
                f"written in one atomic step on one server; use one of {', '.join(SCHEMES)}"
            )
        if scheme not in SCHEMES:
            raise ValueError(f"Redis URL scheme {scheme!r}: use one of {', '.join(SCHEMES)}")
        for name in (
            "op_timeout_seconds",
            "write_timeout_seconds",
            "connect_timeout_seconds",
            "pool_wait_seconds",
            "probe_seconds",
            "max_connections",
            "history_ttl_seconds",
            "shown_ttl_seconds",
            "stream_max_length",
            "breaker_failures",
        ):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if self.wait_replicas < 0:
            raise ValueError(f"wait_replicas is {self.wait_replicas}; it must be at least 0")
        if not 1 <= self.history_max <= MAX_HISTORY:
            raise ValueError(f"history_max is {self.history_max}; choose 1 to {MAX_HISTORY}")

    @property
    def read_wait_seconds(self) -> float:
        """How long the caller of a read waits at most, retry and new connections included.

        A connection that takes longer to open goes on opening, for those who come later.
        """
        return self.op_timeout_seconds + self.pool_wait_seconds

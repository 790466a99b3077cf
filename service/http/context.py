"""What one request carries from middleware to route and back, and what all requests share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from service.blocklist.blocklist import Blocklist
from service.clock import EventClock
from service.engine.batcher import Batcher
from service.impressions import Impressions
from service.ingest import Ingester
from service.lifecycle.announcements import Announcements
from service.lifecycle.contract import ModelManager
from service.lifecycle.shadow import Shadow
from service.lifecycle.sides import SideModels
from service.logs import UserHasher
from service.metrics.metrics import Metrics
from service.overload.overload import Overload
from service.overload.rates import Rates
from service.recommend import Recommender
from service.settings import Settings
from service.store.contract import HistoryStore
from service.tracing.contract import Marks, Span, TraceParent, Tracer

SCOPE_KEY = "canet"


@dataclass(slots=True)
class Exchange:
    """One request and its answer, as the middleware headers, counts and logs it."""

    request_id: str
    model_version: str | None = None
    stage_seconds: dict[str, float] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    """Further fields of the canonical log line; no raw user ids, no histories."""
    headers: dict[str, str] = field(default_factory=dict)
    """Further headers of the answer, names in lower case, all ASCII."""
    trace: TraceParent | None = None
    """This request's place in its trace; None where there is neither a caller's nor our own."""
    span: Span | None = None
    """None without tracing."""

    @property
    def marks(self) -> Marks | None:
        """Where stages are noted, None for requests that are not traced."""
        return None if self.span is None else self.span.marks


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything that routes delegate to; built in `service.app` alone."""

    settings: Settings
    store: HistoryStore
    models: ModelManager
    sides: SideModels
    shadow: Shadow
    announcements: Announcements | None
    batcher: Batcher
    batchers: tuple[Batcher, ...]
    """The stable version's, which is `batcher`, and those of candidate and shadow."""
    metrics: Metrics
    recommender: Recommender
    blocklist: Blocklist
    ingester: Ingester
    event_clock: EventClock
    impressions: Impressions
    hash_user: UserHasher
    overload: Overload
    rates: Rates | None
    """None where there is no limit."""
    tracer: Tracer | None
    """None without a collector."""
    lifetime: Lifetime


@dataclass(slots=True)
class Lifetime:
    """Where the process listens, and whether it is on its way out.

    Then `/readyz` says so, and requests are still answered.
    """

    draining: bool = False
    admin_port: int | None = None
    """The port of the admin routes, once it is bound; None where there is none of their own."""
    when_loaded: Callable[[], None] = lambda: None
    """Called when the first model was looked for, found or not: what is in memory now stays."""


def services(request: Request) -> Services:
    """Return what this app was built from."""
    found: Services = request.app.state.services
    return found


def exchange(request: Request) -> Exchange:
    """Return the middleware's record of this request."""
    found: Exchange = request.scope[SCOPE_KEY]
    return found

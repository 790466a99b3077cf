"""The one place where the service is put together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from service.clock import EventClock
from service.engine.batcher import Batcher
from service.http.application import Application
from service.http.context import Lifetime, Services
from service.http.direct import Direct
from service.http.limits import BodyLimit, Doors
from service.http.methods import Allowed, Methods
from service.http.middleware import Exchanges, http_problem
from service.http.problems import field_errors, invalid
from service.http.record import Recorder
from service.http.routing import ENDPOINTS, add_routes, shortcuts, templates
from service.http.turning_away import TurningAway
from service.impressions import Impressions
from service.ingest import Ingester
from service.lifecycle.contract import ModelManager
from service.lifecycle.lines import Lines
from service.lifecycle.shadow import Shadow
from service.lifecycle.sides import SideModels
from service.logs import UserHasher
from service.metrics.metrics import Metrics
from service.overload.controller import Limits
from service.overload.overload import Overload
from service.parts import (
    blocklist,
    history_store,
    model_manager,
    request_rates,
    result_cache,
    side_models,
)
from service.recommend import Recommender
from service.settings import Settings
from service.store.contract import HistoryStore
from service.tracing.opening import tracer_of

log = logging.getLogger("canet.app")

_STORE_WATCH_SECONDS = 5.0
# Fewer inside would leave engine and event loop idle while they wait for each other.
_LEAST_ADMITTED = 16
_TRACE_HEADERS = ("traceparent", "tracestate")


def create_app(
    settings: Settings,
    *,
    store: HistoryStore | None = None,
    models: ModelManager | None = None,
    sides: SideModels | None = None,
    registry: CollectorRegistry | None = None,
) -> FastAPI:
    """Return the service, not yet started; its lifespan starts and stops what it owns.

    Without a `store`, histories live at `settings.redis_url`, or in this process's memory when
    there is none. Without `models` and `sides`, checkpoints under `settings.model_root` are
    served. Raises SettingsError where a setting needs what is not installed.
    """
    tracer = tracer_of(settings, version=_version())
    metrics = Metrics(registry or _process_registry(), revision=settings.revision)
    metrics.create_routes((endpoint.method, endpoint.path) for endpoint in ENDPOINTS)
    store = store or history_store(settings, metrics)
    announcements = None
    if models is None:
        models, announcements = model_manager(settings, metrics)
    sides = sides or side_models(settings, metrics)
    overload = Overload(
        Limits(
            objective_seconds=settings.objective_ms / 1000,
            least_admitted=min(_LEAST_ADMITTED, settings.queue_limit),
            most_admitted=settings.queue_limit,
            shrink=settings.overload_policy == "shrink_then_shed",
            shed=settings.overload_policy != "off",
        ),
        observer=metrics,
        batches=metrics,
        waiting=lambda: batcher.depth + candidate_batcher.depth,
        published=_price_of(models),
        configured=settings.price is not None,
    )
    batcher = Batcher(
        models.current,
        observer=overload,
        price=lambda: overload.price,
        max_batch=settings.max_batch,
        max_wait_seconds=settings.batch_wait_ms / 1000,
        queue_limit=settings.queue_limit,
    )
    candidate_batcher = Batcher(
        lambda: sides.engine("candidate"),
        observer=overload,
        price=lambda: overload.price,
        max_batch=settings.max_batch,
        max_wait_seconds=settings.batch_wait_ms / 1000,
        queue_limit=settings.queue_limit,
        variant="candidate",
    )
    shadow_batcher = Batcher(
        lambda: sides.engine("shadow"),
        observer=metrics,
        max_batch=settings.max_batch,
        queue_limit=settings.max_batch,
        variant="shadow",
        loop_seconds=0.0,  # nobody waits for it, so nobody is to wait because of it
    )
    shadow = Shadow(
        sides,
        shadow_batcher,
        observer=metrics,
        busy=lambda: batcher.depth + candidate_batcher.depth > 0,
        limit=settings.max_batch,
    )
    lines = Lines(models=models, batcher=batcher, sides=sides, candidate_batcher=candidate_batcher)
    blocked = blocklist(settings, metrics)
    impressions = Impressions(store, observer=metrics, ttl_seconds=settings.impressions_ttl)
    metrics.queue_depth.set_function(lambda: float(batcher.depth + candidate_batcher.depth))
    recorder = Recorder(
        metrics=metrics, model_version=_version_of(models), routes=templates(), tracer=tracer
    )
    services = Services(
        settings=settings,
        store=store,
        models=models,
        sides=sides,
        batchers=(batcher, candidate_batcher, shadow_batcher),
        shadow=shadow,
        announcements=announcements,
        batcher=batcher,
        metrics=metrics,
        recommender=Recommender(
            store=store,
            lines=lines,
            shadow=shadow,
            metrics=metrics,
            history_max=settings.history_max,
            deadline_seconds=settings.deadline_seconds,
            price=lambda: overload.price,
            blocked=lambda: blocked.current,
            impressions=impressions,
            cache=result_cache(settings),
        ),
        blocklist=blocked,
        event_clock=EventClock(),
        ingester=Ingester(store=store, impressions=impressions, metrics=metrics),
        impressions=impressions,
        hash_user=UserHasher(settings.log_salt.get_secret_value()),
        overload=overload,
        rates=request_rates(settings, metrics),
        lifetime=Lifetime(),
        tracer=tracer,
    )
    app = Application(
        title="CANet Serve",
        version=_version(),
        description="Next-item recommendation that picks, per user, the submodel just large "
        "enough. Errors are RFC 9457 problems.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # The service has metrics and lines of its own; asked per request, this is dear.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        lifespan=partial(_lifespan, services),
    )
    app.state.services = services
    app.state.turning_away = TurningAway(overload, recorder, cors=bool(settings.cors_origins))
    add_routes(app)
    allowed = Allowed(ENDPOINTS, admin=any("admin" in key.scopes for key in settings.api_keys))
    app.add_exception_handler(HTTPException, partial(_refused, allowed))
    app.add_exception_handler(RequestValidationError, _wrong_parameter)
    app.add_middleware(Methods, allowed=allowed)
    app.add_middleware(Direct, shortcuts=shortcuts())
    app.add_middleware(BodyLimit, limit=settings.max_body, seconds=settings.client_timeout_seconds)
    if settings.admin_port is not None:
        app.add_middleware(Doors, lifetime=services.lifetime)
    app.add_middleware(Exchanges, recorder=recorder)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Content-Type", "X-API-Key", "X-Request-ID", *_TRACE_HEADERS],
            expose_headers=[
                *(
                    "X-Request-ID",
                    "X-Model-Version",
                    "Server-Timing",
                    "Retry-After",
                    "traceresponse",
                ),
                *("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"),
            ],
        )
    return app


@asynccontextmanager
async def _lifespan(services: Services, app: FastAPI) -> AsyncIterator[None]:
    for batcher in services.batchers:
        batcher.start()
    if services.announcements is not None:
        services.announcements.start()
    # In the background: /healthz answers and /readyz says 503 while the model loads.
    loading = asyncio.create_task(_load(services), name="model-start")
    loading.add_done_callback(_report)
    watching = asyncio.create_task(_watch_store(services), name="store-watch")
    pricing = asyncio.create_task(services.overload.run(), name="overload")
    try:
        yield
    finally:
        services.lifetime.draining = True
        watching.cancel()
        await services.shadow.stop()
        grace = services.settings.grace_seconds
        await asyncio.gather(*(batcher.stop(grace) for batcher in services.batchers))
        pricing.cancel()
        loading.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await loading
        await services.blocklist.stop()
        await services.models.stop()
        await services.sides.stop()
        if services.announcements is not None:
            await services.announcements.stop()
        if services.rates is not None:
            await services.rates.close()
        await services.impressions.stop()
        await services.store.close()
        if services.tracer is not None:
            await asyncio.to_thread(services.tracer.close)


async def _load(services: Services) -> None:
    try:
        # What nobody may be shown is known before anybody is answered, if it can be.
        await services.blocklist.start()
        # One after the other: what answers everybody comes first.
        await services.models.start()
    finally:
        services.lifetime.when_loaded()
    await services.sides.start()


async def _watch_store(services: Services) -> None:
    """Keep `canet_redis_up` true on an idle service: ask the store now and then."""
    while True:
        services.metrics.redis_up.set(await services.store.ping())
        await asyncio.sleep(_STORE_WATCH_SECONDS)


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("the model manager could not start", exc_info=error)


def _version_of(models: ModelManager) -> Callable[[], str | None]:
    def current_version() -> str | None:
        engine = models.current()
        return None if engine is None else engine.info.version

    return current_version


def _price_of(models: ModelManager) -> Callable[[], float | None]:
    def price() -> float | None:
        engine = models.current()
        return None if engine is None else engine.info.price

    return price


async def _refused(allowed: Allowed, request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    raise http_problem(error, allowed.of(request.scope["path"])) from None


async def _wrong_parameter(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    details: list[Any] = list(error.errors())
    raise invalid(field_errors(details)) from None


def _process_registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
        registry.register(collector)
    return registry


def _version() -> str:
    try:
        return version("canet-serve")
    except PackageNotFoundError:
        return "0"

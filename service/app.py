"""The one place where the service is put together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from service.engine.batcher import Batcher
from service.engine.contract import Engine
from service.http.context import Lifetime, Services
from service.http.direct import Direct
from service.http.middleware import BodyLimit, Exchanges, http_problem
from service.http.problems import field_errors, invalid
from service.http.routing import ENDPOINTS, add_routes, shortcuts, templates
from service.ingest import Ingester
from service.lifecycle.contract import ModelManager
from service.lifecycle.manager import CheckpointManager
from service.logs import UserHasher
from service.metrics.metrics import Metrics
from service.recommend import Recommender
from service.settings import Settings
from service.store.contract import HistoryStore
from service.store.memory_store import MemoryHistoryStore
from service.store.redis_config import RedisConfig
from service.store.redis_history import RedisHistoryStore

log = logging.getLogger("canet.app")

_STORE_WATCH_SECONDS = 5.0


def create_app(
    settings: Settings,
    *,
    store: HistoryStore | None = None,
    models: ModelManager | None = None,
    registry: CollectorRegistry | None = None,
) -> FastAPI:
    """Return the service, not yet started; its lifespan starts and stops what it owns.

    Without a `store`, histories live at `settings.redis_url`, or in this process's memory when
    there is none. Without `models`, checkpoints under `settings.model_root` are served.
    """
    metrics = Metrics(registry or _process_registry(), revision=settings.revision)
    metrics.create_routes((endpoint.method, endpoint.path) for endpoint in ENDPOINTS)
    store = store or _store(settings, metrics)
    models = models or _models(settings, metrics)
    batcher = Batcher(
        models.current,
        observer=metrics,
        max_batch=settings.max_batch,
        max_wait_seconds=settings.batch_wait_ms / 1000,
        queue_limit=settings.queue_limit,
    )
    metrics.queue_depth.set_function(lambda: float(batcher.depth))
    services = Services(
        settings=settings,
        store=store,
        models=models,
        batcher=batcher,
        metrics=metrics,
        recommender=Recommender(
            store=store,
            models=models,
            batcher=batcher,
            metrics=metrics,
            history_max=settings.history_max,
            deadline_seconds=settings.deadline_seconds,
        ),
        ingester=Ingester(store=store, metrics=metrics),
        hash_user=UserHasher(settings.log_salt.get_secret_value()),
        lifetime=Lifetime(),
    )
    app = FastAPI(
        title="CANet Serve",
        version=_version(),
        description="Next-item recommendation that picks, per user, the submodel just large "
        "enough. Errors are RFC 9457 problems.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=partial(_lifespan, services),
    )
    app.state.services = services
    add_routes(app)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _wrong_parameter)
    app.add_middleware(Direct, shortcuts=shortcuts())
    app.add_middleware(BodyLimit, limit=settings.max_body)
    app.add_middleware(
        Exchanges, metrics=metrics, model_version=_version_of(models), routes=templates()
    )
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Content-Type", "X-API-Key", "X-Request-ID", "traceparent"],
            expose_headers=["X-Request-ID", "X-Model-Version", "Server-Timing", "Retry-After"],
        )
    return app


@asynccontextmanager
async def _lifespan(services: Services, app: FastAPI) -> AsyncIterator[None]:
    services.batcher.start()
    # In the background: /healthz answers and /readyz says 503 while the model loads.
    loading = asyncio.create_task(services.models.start(), name="model-start")
    loading.add_done_callback(_report)
    watching = asyncio.create_task(_watch_store(services), name="store-watch")
    try:
        yield
    finally:
        services.lifetime.draining = True
        watching.cancel()
        await services.batcher.stop(services.settings.grace_seconds)
        loading.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await loading
        await services.models.stop()
        await services.store.close()


async def _watch_store(services: Services) -> None:
    """Keep `canet_redis_up` true on an idle service: ask the store now and then."""
    while True:
        services.metrics.redis_up.set(await services.store.ping())
        await asyncio.sleep(_STORE_WATCH_SECONDS)


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("the model manager could not start", exc_info=error)


def _store(settings: Settings, metrics: Metrics) -> HistoryStore:
    if settings.redis_url is None:
        log.warning("histories live in this process's memory; set CANET_REDIS_URL to keep them")
        return MemoryHistoryStore(
            history_max=settings.history_max, history_ttl_seconds=settings.history_ttl
        )
    config = RedisConfig(
        url=settings.redis_url.get_secret_value(),
        op_timeout_seconds=settings.redis_op_timeout_ms / 1000,
        connect_timeout_seconds=settings.redis_connect_timeout_ms / 1000,
        max_connections=settings.redis_max_connections,
        history_max=settings.history_max,
        history_ttl_seconds=settings.history_ttl,
    )
    return RedisHistoryStore(config, observe=metrics.store_observed)


def _models(settings: Settings, metrics: Metrics) -> ModelManager:
    def load(path: Path) -> Engine:
        # Imported here, so that tests of everything else need no torch.
        from service.engine.torch_engine import load_engine

        return load_engine(path, price=settings.price, allowed=settings.submodels or None)

    return CheckpointManager(
        settings.model_root,
        load,
        observer=metrics,
        poll_seconds=settings.reload_poll_seconds,
        max_batch=settings.max_batch,
        pinned=settings.model_version,
    )


def _version_of(models: ModelManager) -> Callable[[], str | None]:
    def current_version() -> str | None:
        engine = models.current()
        return None if engine is None else engine.info.version

    return current_version


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    raise http_problem(error) from None


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

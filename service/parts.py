"""Each part of the service from its settings; `service.app` puts them together."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

from service.blocklist.blocklist import Blocklist
from service.blocklist.contract import BlocklistStore
from service.blocklist.memory_blocklist import MemoryBlocklist
from service.blocklist.redis_blocklist import RedisBlocklist
from service.cache.results import ResultCache
from service.engine.contract import Engine
from service.lifecycle.announcements import Announcements
from service.lifecycle.manager import CheckpointManager
from service.lifecycle.sides import SideConfig, SideModels
from service.metrics.metrics import Metrics
from service.overload.rates import LocalRates, Rates
from service.overload.shared_rates import SharedRates
from service.settings import Settings
from service.store.contract import HistoryStore
from service.store.memory_store import MemoryHistoryStore
from service.store.redis_config import RedisConfig
from service.store.redis_history import RedisHistoryStore

log = logging.getLogger("canet.app")


def result_cache(settings: Settings) -> ResultCache | None:
    """Return the cache of answers, None when it is off."""
    if settings.result_ttl == 0:
        return None
    return ResultCache(
        ttl_seconds=settings.result_ttl, max_bytes=settings.result_cache_mb * 1024 * 1024
    )


def history_store(settings: Settings, metrics: Metrics) -> HistoryStore:
    """Return the store at `redis_url`, or one in this process's memory."""
    if settings.redis_url is None:
        log.warning("histories live in this process's memory; set CANET_REDIS_URL to keep them")
        return MemoryHistoryStore(
            history_max=settings.history_max,
            history_ttl_seconds=settings.history_ttl,
            shown_ttl_seconds=settings.impressions_ttl,
        )
    config = _redis_config(settings, settings.redis_url.get_secret_value())
    store = RedisHistoryStore(config, observe=metrics.store_observed)
    metrics.redis_in_flight.set_function(lambda: float(store.in_flight))
    metrics.redis_connections_limit.set(config.max_connections)
    return store


def blocklist(settings: Settings, metrics: Metrics) -> Blocklist:
    """Return the operator's blocklist, kept where histories are."""
    limit = settings.blocklist_max
    store: BlocklistStore = MemoryBlocklist(limit=limit)
    if settings.redis_url is not None:
        config = _redis_config(settings, settings.redis_url.get_secret_value())
        store = RedisBlocklist(config, limit=limit, observe=metrics.store_observed)
    return Blocklist(
        store, observer=metrics, poll_seconds=settings.reload_poll_seconds, limit=limit
    )


def request_rates(settings: Settings, metrics: Metrics) -> Rates | None:
    """Return the limit of requests per key, None when there is none."""
    if settings.rate_limit is None:
        return None
    if settings.redis_url is None or not settings.rate_limit_shared:
        return LocalRates(settings.rate_limit)
    config = _redis_config(settings, settings.redis_url.get_secret_value())
    # A count that is late is worth less than the request it holds up.
    config = replace(config, write_timeout_seconds=config.op_timeout_seconds, wait_replicas=0)
    return SharedRates(settings.rate_limit, config, metrics.store_observed)


def _redis_config(settings: Settings, url: str) -> RedisConfig:
    return RedisConfig(
        url=url,
        op_timeout_seconds=settings.redis_op_timeout_ms / 1000,
        write_timeout_seconds=settings.redis_write_timeout_ms / 1000,
        connect_timeout_seconds=settings.redis_connect_timeout_ms / 1000,
        max_connections=settings.redis_max_connections,
        wait_replicas=settings.redis_wait_replicas,
        history_max=settings.history_max,
        history_ttl_seconds=settings.history_ttl,
        shown_ttl_seconds=max(1, settings.impressions_ttl),
    )


def model_manager(
    settings: Settings, metrics: Metrics
) -> tuple[CheckpointManager, Announcements | None]:
    """Return what serves CURRENT, and what tells other replicas where there is a Redis."""
    announcements: Announcements | None = None
    manager = CheckpointManager(
        settings.model_root,
        partial(_load_engine, settings),
        observer=metrics,
        poll_seconds=settings.reload_poll_seconds,
        max_batch=settings.max_batch,
        pinned=settings.model_version,
        moved=lambda version: announcements.tell(version) if announcements else None,
    )
    if settings.redis_url is not None:
        announcements = Announcements(settings.redis_url.get_secret_value(), manager.notice)
    return manager, announcements


def side_models(settings: Settings, metrics: Metrics) -> SideModels:
    """Return what serves the candidate and the shadow."""
    return SideModels(
        settings.model_root,
        partial(_load_engine, settings),
        observer=metrics,
        config={
            "candidate": SideConfig(
                version=settings.candidate_version, percent=settings.candidate_percent
            ),
            "shadow": SideConfig(version=settings.shadow_version, percent=settings.shadow_percent),
        },
        salt=settings.traffic_salt,
        max_batch=settings.max_batch,
        poll_seconds=settings.reload_poll_seconds,
    )


def _load_engine(settings: Settings, path: Path) -> Engine:
    # Imported here, so that tests of everything else need no torch.
    from service.engine.torch_engine import load_engine

    return load_engine(path, price=settings.price, allowed=settings.submodels or None)

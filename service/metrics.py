"""Every metric of the service, on one registry. Names and labels: docs/metrics.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from service.engine.contract import PARTS, BatchTimings, ModelInfo, Ranking
from service.lifecycle.contract import RELOAD_RESULTS, ReloadResult

# Every latency objective is an edge; all durations share them, so that they compare.
LATENCY = (
    *(0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075),
    *(0.1, 0.25, 0.5, 1.0, 2.5),
)
REDIS_LATENCY = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25)
LENGTHS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNMATCHED = "unmatched"
STAGES = ("redis", "queue", "route", "encode", "score", "serialise")
SOURCES = ("model", "cache", "popular")
VARIANTS = ("stable",)
DEGRADED = ("redis_down", "deadline", "overload", "short_list")
OVERRIDES = ("full", "fixed", "max_ratio", "overload")
EVENT_TYPES = ("view", "click", "like", "cart", "purchase", "play", "rate", "impression")
EVENT_RESULTS = ("accepted", "duplicate", "rejected")
REDIS_OPS = ("append", "recent", "entries", "replace", "merge", "delete", "ping")
REDIS_KINDS = (
    *("breaker_open", "pool", "connection", "timeout", "loading", "auth", "response", "other"),
)
MOST_SUBMODELS = 36
# Statuses whose counters exist before the first such answer.
USUAL_STATUSES = (200, 422, 429, 500, 503)


class Metrics:
    """The service's metrics; one object per app, so that tests never collide.

    Every labelled counter with a closed label set exists at 0 from the start. Values outside a
    closed set are folded to `other`, so no caller can make a new series.
    """

    def __init__(self, registry: CollectorRegistry, *, revision: str = "unknown") -> None:
        self.registry = registry
        self._define_http()
        self._define_model()
        self._define_store()
        self._served: set[str] = set()
        self._model_labels: tuple[str, str, str] | None = None
        gauge = self._gauge("build_info", "1; what runs.", "version", "revision", "torch")
        gauge.labels(_installed("canet-serve"), revision, _installed("torch")).set(1)

    def _define_http(self) -> None:
        http = ("method", "route")
        self.http_requests = self._counter(
            "http_requests_total", "Answered requests.", *http, "status"
        )
        self.http_duration = self._histogram(
            "http_request_duration_seconds", "From first byte to last.", LATENCY, *http
        )
        self.http_in_flight = self._gauge("http_requests_in_flight", "Requests being answered.")
        self.stage_duration = self._histogram(
            "stage_duration_seconds", "Time by stage of a recommendation.", LATENCY, "stage"
        )
        self._stages = {stage: self.stage_duration.labels(stage) for stage in STAGES}

    def _define_model(self) -> None:
        counter, gauge = self._counter, self._gauge
        self.recommendations = counter(
            "recommendations_total", "Answers by what made them.", "source", "variant"
        )
        self.degraded = counter("degraded_total", "Answers with less than asked.", "reason")
        self.submodel_requests = counter(
            "submodel_requests_total", "Model answers by submodel.", "submodel"
        )
        self.flops = counter("compute_flops_total", "FLOPs spent on answers.", "part")
        self.baseline_flops = counter(
            "compute_baseline_flops_total", "FLOPs the full network would have spent.", "part"
        )
        self.cpu_seconds = counter(
            "inference_cpu_seconds_total", "Thread CPU time of the engine.", "variant"
        )
        self.router_overrides = counter(
            "router_overrides_total", "Model answers not routed freely.", "reason"
        )
        self.batch_size = self._histogram(
            "batch_size", "Queries per engine call.", (1, 2, 4, 8, 16, 32, 64, 128)
        )
        self.queue_depth = gauge("queue_depth", "Queries waiting for the engine.")
        self.queue_rejections = counter("queue_rejected_total", "Queries refused: queue full.")
        self.history_length = self._histogram(
            "history_length", "Known items of the history, per answer.", LENGTHS
        )
        self.unknown_items = counter("unknown_items_total", "Ids that the catalog does not hold.")
        self.shadow_overlap = self._histogram(
            "shadow_overlap_ratio", "Shared items of stable and shadow answers.", SHARES
        )
        self.model_info = gauge("model_info", "1; what serves.", "version", "digest", "variant")
        self.model_loaded_timestamp = gauge(
            "model_loaded_timestamp_seconds", "When the model began to serve.", "variant"
        )
        self.model_trained_timestamp = gauge(
            "model_trained_timestamp_seconds", "When the model was trained.", "variant"
        )
        self.model_reloads = counter("model_reloads_total", "Finished load attempts.", "result")
        _create(self.recommendations, *((s, v) for s in SOURCES for v in VARIANTS))
        _create(self.degraded, *((reason,) for reason in DEGRADED))
        _create(self.flops, *((part,) for part in PARTS))
        _create(self.baseline_flops, *((part,) for part in PARTS))
        _create(self.cpu_seconds, *((variant,) for variant in VARIANTS))
        _create(self.router_overrides, *((reason,) for reason in OVERRIDES))
        _create(self.model_reloads, *((result,) for result in RELOAD_RESULTS))

    def _define_store(self) -> None:
        counter = self._counter
        self.redis_duration = self._histogram(
            "redis_operation_duration_seconds", "One store operation.", REDIS_LATENCY, "op"
        )
        self.redis_errors = counter(
            "redis_errors_total", "Store operations that failed.", "op", "kind"
        )
        self.redis_up = self._gauge("redis_up", "1 while the store answers.")
        self.cache_requests = counter("cache_requests_total", "Cache look-ups.", "cache", "result")
        self.events = counter("events_total", "Events received.", "type", "result")
        self.attributed_events = counter(
            "attributed_events_total", "New events naming a recommendation.", "type", "variant"
        )
        self.impressions = counter("impressions_total", "Items reported as shown.", "variant")
        types = (*EVENT_TYPES, "other")
        _create(self.redis_duration, *((op,) for op in REDIS_OPS))
        _create(self.redis_errors, *((op, kind) for op in REDIS_OPS for kind in REDIS_KINDS))
        _create(self.cache_requests, ("result", "hit"), ("result", "miss"))
        _create(self.events, *((t, result) for t in types for result in EVENT_RESULTS))
        _create(self.attributed_events, *((t, v) for t in types for v in VARIANTS))
        _create(self.impressions, *((variant,) for variant in VARIANTS))

    def create_routes(self, routes: Iterable[tuple[str, str]]) -> None:
        """Create the counters of these (method, route template) pairs at 0."""
        for method, route in routes:
            self.http_duration.labels(method, route)
            for status in USUAL_STATUSES:
                self.http_requests.labels(method, route, str(status))

    def http_answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Note one answered request; an unknown method counts as `other`."""
        method = method if method in METHODS else "other"
        self.http_requests.labels(method, route, str(status)).inc()
        self.http_duration.labels(method, route).observe(seconds)

    def stage(self, stage: str, seconds: float) -> None:
        """Note the time of one stage of STAGES."""
        self._stages[stage].observe(seconds)

    def answered(self, ranking: Ranking, degraded: Sequence[str], variant: str) -> None:
        """Note one recommendation; only answers of the model touch the FLOP counters."""
        self.recommendations.labels(ranking.source, variant).inc()
        self.history_length.observe(ranking.history_length)
        if ranking.missing_items:
            self.unknown_items.inc(len(ranking.missing_items))
        for reason in degraded:
            self.degraded.labels(reason).inc()
        if ranking.source != "model" or ranking.submodel is None:
            return
        self.submodel_requests.labels(
            ranking.submodel if ranking.submodel in self._served else "other"
        ).inc()
        for part in PARTS:
            self.flops.labels(part).inc(getattr(ranking.flops, part))
            self.baseline_flops.labels(part).inc(getattr(ranking.flops_full, part))
        if ranking.reason in OVERRIDES:
            self.router_overrides.labels(ranking.reason).inc()

    def batch_done(
        self, queue_seconds: Sequence[float], timings: BatchTimings, variant: str
    ) -> None:
        """Note one engine call: queue time per query, the other stages once per batch."""
        self.batch_size.observe(len(queue_seconds))
        for seconds in queue_seconds:
            self._stages["queue"].observe(seconds)
        self._stages["route"].observe(timings.route_seconds)
        self._stages["encode"].observe(timings.encode_seconds)
        self._stages["score"].observe(timings.score_seconds)
        cpu = sum(timings.cpu_seconds_by_submodel.values())
        self.cpu_seconds.labels(variant).inc(max(cpu, 0.0))

    def queue_rejected(self) -> None:
        """Note one query refused by the full queue."""
        self.queue_rejections.inc()

    def event(self, event_type: str, result: str, *, attributed: bool = False) -> None:
        """Note one event; types outside the allow-list count as `other`."""
        kind = event_type if event_type in EVENT_TYPES else "other"
        self.events.labels(kind, result).inc()
        if attributed:
            self.attributed_events.labels(kind, VARIANTS[0]).inc()

    def impressions_shown(self, items: int) -> None:
        """Note that so many items were reported as shown."""
        self.impressions.labels(VARIANTS[0]).inc(items)

    def store_observed(self, op: str, seconds: float, kind: str | None) -> None:
        """Note one store operation; `kind` is the kind of failure, None when it went well."""
        op = op if op in REDIS_OPS else "other"
        self.redis_duration.labels(op).observe(seconds)
        if kind is None:
            self.redis_up.set(1)
            return
        self.redis_errors.labels(op, kind if kind in REDIS_KINDS else "other").inc()
        if kind != "response":
            self.redis_up.set(0)

    def model_loaded(self, info: ModelInfo, *, loaded_at_unix: float) -> None:
        """Note that `info` serves from now on; its submodels' counters exist afterwards."""
        variant = VARIANTS[0]
        if self._model_labels is not None:
            self.model_info.remove(*self._model_labels)
        self._model_labels = (info.version, info.digest, variant)
        self.model_info.labels(*self._model_labels).set(1)
        self.model_loaded_timestamp.labels(variant).set(loaded_at_unix)
        self.model_trained_timestamp.labels(variant).set(info.trained_at_unix)
        # Names of earlier models stay: their last answers may still be on the way.
        for submodel in info.submodels:
            if len(self._served) < MOST_SUBMODELS:
                self._served.add(submodel.name)
                self.submodel_requests.labels(submodel.name)

    def reload_finished(self, result: ReloadResult) -> None:
        """Count one finished load attempt."""
        self.model_reloads.labels(result).inc()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"canet_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"canet_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"canet_{name}", text, labels, registry=self.registry, buckets=buckets)


def _create(metric: Counter | Histogram, *children: tuple[str, ...]) -> None:
    for labels in children:
        metric.labels(*labels)


def _installed(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"

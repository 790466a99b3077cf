"""Answers and what they cost: FLOPs, CPU time, submodels, batches, the queue."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from service.engine.contract import PARTS, BatchTimings, Ranking
from service.metrics.http import HttpMetrics
from service.metrics.labels import (
    BATCH_SIZES,
    CACHE_RESULTS,
    CACHES,
    DEGRADED,
    LENGTHS,
    OVERRIDES,
    SOURCES,
    VARIANTS,
)
from service.metrics.makers import create, within


class ComputeMetrics(HttpMetrics):
    """What the recommender, the batcher and the engine note; a batch also has stages."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
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
        self.batch_size = self._histogram("batch_size", "Queries per engine call.", BATCH_SIZES)
        self.queue_depth = gauge("queue_depth", "Queries waiting for the engine.")
        self.queue_rejections = counter("queue_rejected_total", "Queries refused: queue full.")
        self.history_length = self._histogram(
            "history_length", "Known items of the history, per answer.", LENGTHS
        )
        self.unknown_items = counter("unknown_items_total", "Ids that the catalog does not hold.")
        self.cache_requests = counter("cache_requests_total", "Cache look-ups.", "cache", "result")
        create(self.recommendations, SOURCES, VARIANTS)
        create(self.degraded, DEGRADED)
        create(self.flops, PARTS)
        create(self.baseline_flops, PARTS)
        create(self.cpu_seconds, VARIANTS)
        create(self.router_overrides, OVERRIDES)
        create(self.cache_requests, CACHES, CACHE_RESULTS)
        self._served: set[str] = set()

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
        self.submodel_requests.labels(within(ranking.submodel, self._served)).inc()
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
            self.stage("queue", seconds)
        self.stage("route", timings.route_seconds)
        self.stage("encode", timings.encode_seconds)
        self.stage("score", timings.score_seconds)
        cpu = sum(timings.cpu_seconds_by_submodel.values())
        self.cpu_seconds.labels(variant).inc(max(cpu, 0.0))

    def queue_rejected(self) -> None:
        """Note one query refused by the full queue."""
        self.queue_rejections.inc()

"""Answers and what they cost: FLOPs, CPU time, submodels, batches, the queue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry

from service.engine.contract import EVERY_SUBMODEL, PARTS, BatchTimings, Part, Ranking
from service.metrics.http import HttpMetrics
from service.metrics.labels import (
    ANSWER_LENGTHS,
    BATCH_SIZES,
    CACHE_RESULTS,
    CACHES,
    DEGRADED,
    LENGTHS,
    OVERRIDES,
    POPULAR_REASONS,
    RELEASES,
    SOURCES,
    VARIANTS,
    length_label,
)
from service.metrics.makers import Children, create, within


class ComputeMetrics(HttpMetrics):
    """What the recommender, the batcher and the engine note; a batch also has stages."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        counter, gauge = self._counter, self._gauge
        self.recommendations = counter(
            "recommendations_total", "Answers by what made them.", "source", "variant"
        )
        self.degraded = counter("degraded_total", "Answers with less than asked.", "reason")
        self.popular_answers = counter(
            "popular_answers_total", "Answers without the model, by why.", "reason"
        )
        self.submodel_requests = counter(
            "submodel_requests_total", "Model answers by submodel.", "submodel"
        )
        self.flops = counter("compute_flops_total", "FLOPs spent on answers.", "part")
        self.baseline_flops = counter(
            "compute_baseline_flops_total", "FLOPs the full network would have spent.", "part"
        )
        self.length_flops = counter(
            "length_flops_total", "FLOPs of the model's answers by history length.", "length"
        )
        self.length_baseline_flops = counter(
            "length_baseline_flops_total",
            "FLOPs the full network would have spent on them.",
            "length",
        )
        self.work_flops = counter(
            "inference_flops_total",
            "FLOPs executed, those of a shadow as well.",
            *("variant", "submodel"),
        )
        self.cpu_seconds = counter(
            "inference_cpu_seconds_total",
            "Thread CPU time of the engine.",
            *("variant", "submodel", "part"),
        )
        self.baseline_cpu_seconds = counter(
            "inference_baseline_cpu_seconds_total",
            "Estimate of the CPU time the full network would have taken.",
            "part",
        )
        self.router_overrides = counter(
            "router_overrides_total", "Model answers not routed freely.", "reason"
        )
        self.batch_size = self._histogram("batch_size", "Queries per engine call.", BATCH_SIZES)
        self.batches_released = counter(
            "batch_released_total", "Batches by why they went to the engine.", "reason"
        )
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
        create(self.length_flops, ANSWER_LENGTHS)
        create(self.length_baseline_flops, ANSWER_LENGTHS)
        create(self.work_flops, VARIANTS, (EVERY_SUBMODEL,))
        create(self.cpu_seconds, VARIANTS, (EVERY_SUBMODEL,), ("router",))
        create(self.popular_answers, POPULAR_REASONS)
        create(self.baseline_cpu_seconds, PARTS)
        create(self.router_overrides, OVERRIDES)
        create(self.cache_requests, CACHES, CACHE_RESULTS)
        create(self.batches_released, RELEASES)
        self._served: set[str] = set()
        self._by_source = Children(self.recommendations.labels)
        self._lengths = self.history_length.labels()
        self._flops_by_part = Children(self.flops.labels)
        self._by_submodel = Children(self.submodel_requests.labels)
        self._by_length = Children(self.length_flops.labels)
        self._baseline_by_length = Children(self.length_baseline_flops.labels)
        self._baseline_by_part = Children(self.baseline_flops.labels)
        self._baseline_cpu_by_part = Children(self.baseline_cpu_seconds.labels)
        self._released = Children(self.batches_released.labels)
        self._cache_asked = Children(self.cache_requests.labels)
        self._work_flops = Children(self.work_flops.labels)
        self._cpu = Children(self.cpu_seconds.labels)
        # By variant.
        self._full_cpu_per_flop: dict[str, Mapping[Part, float]] = {}

    def answered(self, ranking: Ranking, degraded: Sequence[str], variant: str) -> None:
        """Note one recommendation; only answers of the model have a baseline to save on."""
        self._by_source[ranking.source, variant].inc()
        self._lengths.observe(ranking.history_length)
        if ranking.missing_items:
            self.unknown_items.inc(len(ranking.missing_items))
        for reason in degraded:
            self.degraded.labels(reason).inc()
        if ranking.source == "popular":
            self.popular_answers.labels(_why_popular(degraded)).inc()
        if ranking.source != "model" or ranking.submodel is None:
            return
        self._by_submodel[within(ranking.submodel, self._served),].inc()
        length = length_label(ranking.history_length)
        self._by_length[length,].inc(ranking.flops.total)
        self._baseline_by_length[length,].inc(ranking.flops_full.total)
        rates = self._full_cpu_per_flop.get(variant, {})
        for part in PARTS:
            if full := getattr(ranking.flops_full, part):
                self._baseline_by_part[part,].inc(full)
                self._baseline_cpu_by_part[part,].inc(full * rates.get(part, 0.0))
        if ranking.reason in OVERRIDES:
            self.router_overrides.labels(ranking.reason).inc()

    def batch_done(
        self, queue_seconds: Sequence[float], timings: BatchTimings, variant: str
    ) -> None:
        """Note one engine call: queue time per query, the rest once per batch.

        What ran is counted here, whether or not its answer still arrives in time.
        """
        if timings.full_cpu_per_flop:
            self._full_cpu_per_flop[variant] = timings.full_cpu_per_flop
        for (submodel, part), work in timings.work.items():
            name = submodel if submodel == EVERY_SUBMODEL else within(submodel, self._served)
            if variant != "shadow":
                self._flops_by_part[part,].inc(work.flops)
            self._work_flops[variant, name].inc(work.flops)
            self._cpu[variant, name, part].inc(max(work.cpu_seconds, 0.0))
        if variant == "shadow":
            return  # batches, queues and stages are those of answers
        self.batch_size.observe(len(queue_seconds))
        for seconds in queue_seconds:
            self.stage("queue", seconds)
        self.stage("route", timings.route_seconds)
        self.stage("encode", timings.encode_seconds)
        self.stage("score", timings.score_seconds)

    def batch_released(self, reason: str, variant: str) -> None:
        """Note why a batch went to the engine; a shadow's batches are nobody's answers."""
        if variant != "shadow":
            self._released[reason,].inc()

    def cache_asked(self, *, hit: bool) -> None:
        """Note one look-up in the result cache."""
        self._cache_asked["result", "hit" if hit else "miss"].inc()

    def queue_rejected(self) -> None:
        """Note one query refused by the full queue."""
        self.queue_rejections.inc()


def _why_popular(degraded: Sequence[str]) -> str:
    return next((why for why in ("deadline", "redis_down") if why in degraded), "no_history")

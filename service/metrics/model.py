"""The model that serves: which, how old, how it was loaded."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from service.engine.contract import PARTS, ModelInfo
from service.lifecycle.contract import RELOAD_RESULTS, ReloadResult, Variant
from service.metrics.compute import ComputeMetrics
from service.metrics.labels import (
    CANDIDATE_FAILURES,
    MOST_SUBMODELS,
    OFFLINE_METRICS,
    OTHER,
    SHADOW_RESULTS,
    SHARES,
)
from service.metrics.makers import create, within
from service.metrics.overload import OverloadMetrics


class ModelMetrics(ComputeMetrics, OverloadMetrics):
    """What the model manager notes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        gauge = self._gauge
        self.shadow_overlap = self._histogram(
            "shadow_overlap_ratio", "Shared items of stable and shadow answers.", SHARES
        )
        self.shadow_requests = self._counter(
            "shadow_requests_total", "Answers given to the shadow to repeat.", "result"
        )
        self.candidate_failures = self._counter(
            "candidate_failures_total", "Queries the stable version answered instead.", "reason"
        )
        self.model_info = gauge("model_info", "1; what serves.", "version", "digest", "variant")
        self.model_indexed = gauge(
            "model_indexed", "1 where an index answers, 0 where the whole table is read.", "variant"
        )
        self.model_table_bytes = gauge("model_table_bytes", "Bytes of the item table.", "variant")
        self.model_loaded_timestamp = gauge(
            "model_loaded_timestamp_seconds", "When the model began to serve.", "variant"
        )
        self.model_trained_timestamp = gauge(
            "model_trained_timestamp_seconds", "When the model was trained.", "variant"
        )
        self.submodel_flops_ratio = gauge(
            "submodel_flops_ratio", "FLOPs over the full network's, longest history.", "submodel"
        )
        self.model_offline_metric = gauge(
            "model_offline_metric",
            "The checkpoint's own evaluation.",
            "variant",
            "metric",
        )
        self.model_reloads = self._counter(
            "model_reloads_total", "Finished load attempts.", "result"
        )
        create(self.model_reloads, RELOAD_RESULTS)
        create(self.shadow_requests, SHADOW_RESULTS)
        create(self.candidate_failures, (*CANDIDATE_FAILURES.values(), OTHER))
        self.model_fallback = gauge(
            "model_fallback", "1 while another version serves because the wanted one cannot."
        )
        self._offline: dict[str, list[str]] = {}
        self._model_labels: dict[str, tuple[str, str, str]] = {}

    def model_loaded(
        self, info: ModelInfo, *, loaded_at_unix: float, variant: Variant = "stable"
    ) -> None:
        """Note that `info` serves from now on; its submodels' counters exist afterwards."""
        self.model_unloaded(variant)
        self._model_labels[variant] = (info.version, info.digest, variant)
        self.model_info.labels(*self._model_labels[variant]).set(1)
        self.model_indexed.labels(variant).set(info.search == "index")
        self.model_table_bytes.labels(variant).set(info.table_bytes)
        self.model_loaded_timestamp.labels(variant).set(loaded_at_unix)
        self.model_trained_timestamp.labels(variant).set(info.trained_at_unix)
        self._offline[variant] = [name for name in OFFLINE_METRICS if name in info.offline_metrics]
        for metric in self._offline[variant]:
            self.model_offline_metric.labels(variant, metric).set(info.offline_metrics[metric])
        # Names of earlier models stay: their last answers may still be on the way.
        for submodel in info.submodels:
            if len(self._served) < MOST_SUBMODELS:
                self._served.add(submodel.name)
                self.submodel_requests.labels(submodel.name)
            if submodel.name in self._served:
                self.submodel_flops_ratio.labels(submodel.name).set(submodel.flops_ratio)
                create(self.work_flops, (variant,), (submodel.name,))
                create(self.cpu_seconds, (variant,), (submodel.name,), PARTS[1:])
        if variant == "stable":
            self.curve_changed(info.price_curve)

    def model_unloaded(self, variant: Variant) -> None:
        """Note that nothing serves as `variant` any more."""
        labels = self._model_labels.pop(variant, None)
        if labels is not None:
            self.model_info.remove(*labels)
            self.model_indexed.remove(variant)
            self.model_table_bytes.remove(variant)
            self.model_loaded_timestamp.remove(variant)
            self.model_trained_timestamp.remove(variant)
            for metric in self._offline.pop(variant):
                self.model_offline_metric.remove(variant, metric)

    def shadow_finished(self, result: str) -> None:
        """Count one request of the shadow's share."""
        self.shadow_requests.labels(within(result, SHADOW_RESULTS)).inc()

    def shadow_compared(self, overlap: float) -> None:
        """Note the shared part of a shadow's list and the one that was answered, 0 to 1."""
        self.shadow_overlap.observe(overlap)

    def candidate_failed(self, error: str) -> None:
        """Count one query that the stable version answered in the candidate's place."""
        self.candidate_failures.labels(CANDIDATE_FAILURES.get(error, OTHER)).inc()

    def fallback(self, on: bool) -> None:
        """Note whether another version serves because the wanted one cannot."""
        self.model_fallback.set(on)

    def reload_finished(self, result: ReloadResult) -> None:
        """Count one finished load attempt."""
        self.model_reloads.labels(result).inc()

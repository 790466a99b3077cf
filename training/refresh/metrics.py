"""The trainer's own metrics, on one registry. Names and labels: docs/metrics.md."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    pushadd_to_gateway,
    write_to_textfile,
)

from training.refresh.gate import REASONS

RESULTS = ("published", "unchanged", "refused", "busy", "lost_lease", "stopped", "failed")
MODELS = ("live", "new")
KINDS = ("event", "operation", "repeated", "malformed")
JOB = "canet-trainer"


class RefreshMetrics:
    """What the refreshes of one process did; every series exists from the start."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.last_success = self._gauge(
            "last_success_timestamp_seconds", "When a refresh last ended well."
        )
        self.last_run = self._gauge("last_run_timestamp_seconds", "When a refresh last ended.")
        self.last_ok = self._gauge("last_run_ok", "0 when the last refresh failed.")
        self.duration = self._gauge("run_duration_seconds", "Wall time of the last refresh.")
        self.runs = self._counter("runs_total", "Refreshes by how they ended.", "result")
        self.refused = self._counter("refused_total", "Models that the gate refused.", "reason")
        self.drained = self._counter("drained_total", "Entries taken from the streams.", "kind")
        self.lost = self._gauge("stream_lost", "Entries that fell to the streams' bound undrained.")
        self.forgotten = self._counter("rows_forgotten_total", "Rows removed at users' request.")
        self.ndcg = self._gauge("ndcg_10", "NDCG@10 of the routed model, newest split.", "model")
        self.saved = self._gauge("compute_saved_ratio", "Saved share of the newest model.")
        self.rows = self._gauge("interactions", "Interactions of the last training.")
        self.items = self._gauge("items", "Items of the last training.")
        for result in RESULTS:
            self.runs.labels(result)
        for reason in REASONS:
            self.refused.labels(reason)
        for kind in KINDS:
            self.drained.labels(kind)
        for model in MODELS:
            self.ndcg.labels(model)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"canet_trainer_{name}", text, labels, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"canet_trainer_{name}", text, labels, registry=self.registry)


def write_textfile(metrics: RefreshMetrics, path: Path) -> None:
    """Replace `path` with the metrics, for node_exporter's textfile collector; OSError."""
    write_to_textfile(str(path), metrics.registry)


def push(metrics: RefreshMetrics, gateway: str) -> None:
    """Push the metrics to a Pushgateway at `gateway`, HOST:PORT or a URL; OSError."""
    pushadd_to_gateway(gateway, job=JOB, registry=metrics.registry, timeout=10)

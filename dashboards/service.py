"""The dashboard *Service*: rate, errors, duration, what waits, what is degraded."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as models

from dashboards.panels import GREEN, RED, YELLOW, Query, Row, dashboard, graph, heat, number
from dashboards.promql import RECOMMEND, mean, over, quantile, rate

REQUESTS = "canet_http_requests_total"
DURATION = "canet_http_request_duration_seconds"
FAILED = rate(REQUESTS, where='status=~"5.."')
ANSWERS = "canet_recommendations_total"


def build() -> models.Dashboard:
    """Return the dashboard."""
    top = (
        number(
            "Requests",
            "Answered requests a second, all routes.",
            "reqps",
            Query(rate(REQUESTS), "requests"),
        ),
        number(
            "Server errors",
            "Share of the answers with a status of 500 or above. The objective is 0.1 %.",
            "percentunit",
            Query(
                over(f"({FAILED} or vector(0))", rate(REQUESTS)),
                "errors",
            ),
            steps=((0, GREEN), (0.001, YELLOW), (0.01, RED)),
            decimals=2,
        ),
        number(
            "Recommend p99",
            "99 of 100 recommendations are answered within this time, batches included.",
            "s",
            Query(quantile(0.99, DURATION, where=RECOMMEND), "p99"),
            steps=((0, GREEN), (0.1, YELLOW), (0.2, RED)),
        ),
        number(
            "Instances up",
            "Replicas that answer Prometheus.",
            "short",
            Query('sum(up{job="canet"})', "up"),
            empty="none known",
            steps=((0, RED), (1, GREEN)),
        ),
    )
    return dashboard(
        "canet-service",
        "Service",
        "Rate, errors and duration of the API, where the time goes, what waits and what is "
        "degraded.",
        top,
        (_red(), _time(), _load(), _answers()),
    )


def _red() -> Row:
    return Row(
        "Rate, errors, duration",
        (
            graph(
                "Requests by route",
                "Answered requests a second by route template; `unmatched` is what has none.",
                "reqps",
                Query(rate(REQUESTS, by="route"), "{{route}}"),
            ),
            graph(
                "Answers by status",
                "Answered requests a second by status.",
                "reqps",
                Query(rate(REQUESTS, by="status"), "{{status}}"),
            ),
            graph(
                "Duration by route, p95",
                "From the first byte in to the last out.",
                "s",
                Query(quantile(0.95, DURATION, by="route"), "{{route}}"),
            ),
        ),
    )


def _time() -> Row:
    return Row(
        "Where the time goes",
        (
            heat(
                "Recommend latency, distribution",
                "Recommendations by duration; a second band is a second kind of answer.",
                "s",
                rate(f"{DURATION}_bucket", by="le", where=RECOMMEND),
            ),
            graph(
                "Recommend latency",
                "Median, 95th and 99th percentile of recommendations.",
                "s",
                Query(quantile(0.5, DURATION, where=RECOMMEND), "p50"),
                Query(quantile(0.95, DURATION, where=RECOMMEND), "p95"),
                Query(quantile(0.99, DURATION, where=RECOMMEND), "p99"),
                width=12,
            ),
            graph(
                "Mean time by stage",
                "Redis, queue and serialising are per request; route, encode and score per batch.",
                "s",
                Query(mean("canet_stage_duration_seconds", by="stage"), "{{stage}}"),
                width=12,
            ),
            graph(
                "Time by stage, p99",
                "The slowest hundredth of every stage.",
                "s",
                Query(quantile(0.99, "canet_stage_duration_seconds", by="stage"), "{{stage}}"),
                width=12,
            ),
        ),
    )


def _load() -> Row:
    return Row(
        "Load and overload",
        (
            graph(
                "Waiting and in flight",
                "Queries in the queue, requests being answered, and the most that are admitted.",
                "short",
                Query("sum(canet_queue_depth)", "queue"),
                Query("sum(canet_http_requests_in_flight)", "in flight"),
                Query("sum(canet_admission_limit)", "admitted at most"),
                empty="no instance",
            ),
            graph(
                "Overload pressure",
                "0: the price as set; 1: the smallest networks answer. Then requests are refused.",
                "percentunit",
                Query("max(canet_overload_pressure)", "pressure"),
                empty="no instance",
                top=1,
            ),
            graph(
                "Turned away",
                "Requests a second answered with 429, by reason.",
                "reqps",
                Query(rate("canet_refused_total", by="reason"), "{{reason}}"),
                empty="no instance",
            ),
            graph(
                "Batch size",
                "Queries per engine call.",
                "short",
                Query(quantile(0.5, "canet_batch_size"), "median"),
                Query(quantile(0.95, "canet_batch_size"), "95th percentile"),
                Query(mean("canet_batch_size"), "mean"),
            ),
            graph(
                "Batches",
                "Engine calls a second.",
                "ops",
                Query(rate("canet_batch_size_count"), "batches"),
            ),
            graph(
                "Process CPU and memory",
                "Cores that the processes use.",
                "short",
                Query(
                    'sum by (instance) (rate(process_cpu_seconds_total{job="canet"}'
                    "[$__rate_interval]))",
                    "{{instance}}",
                ),
                empty="no instance",
            ),
        ),
    )


def _answers() -> Row:
    return Row(
        "What was answered",
        (
            graph(
                "Recommendations by source",
                "By the model, from the cache, or popular items for lack of a history or of time.",
                "reqps",
                Query(rate(ANSWERS, by="source"), "{{source}}"),
                stacked=True,
            ),
            graph(
                "Degraded answers",
                "Share of the answers that lack something, by reason.",
                "percentunit",
                Query(
                    over(rate("canet_degraded_total", by="reason"), rate(ANSWERS), on=""),
                    "{{reason}}",
                ),
            ),
            graph(
                "Result cache",
                "Share of the look-ups that found an answer.",
                "percentunit",
                Query(
                    over(
                        rate("canet_cache_requests_total", by="cache", where='result="hit"'),
                        rate("canet_cache_requests_total", by="cache"),
                    ),
                    "{{cache}}",
                ),
                empty="no look-ups",
                top=1,
            ),
            graph(
                "Events by result",
                "Events a second that were new, known before, or refused.",
                "ops",
                Query(rate("canet_events_total", by="result"), "{{result}}"),
                width=12,
            ),
            graph(
                "Unknown items",
                "Ids a second that the catalog does not hold: new items, or another catalog.",
                "ops",
                Query(rate("canet_unknown_items_total"), "unknown"),
                width=12,
            ),
        ),
    )

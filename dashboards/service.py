"""The dashboard *Service*: rate, errors, duration, what waits, what is degraded."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as models

from dashboards.panels import GREEN, RED, YELLOW, Query, Row, dashboard, graph, heat, number
from dashboards.promql import RATE, RECOMMEND, over, quantile, rate
from dashboards.shapes import NO_INSTANCE, levels, means, rates, slowest, spread

REQUESTS = "canet_http_requests_total"
DURATION = "canet_http_request_duration_seconds"
STAGE = "canet_stage_duration_seconds"
FAILED = rate(REQUESTS, where='status=~"5.."')
ANSWERS = "canet_recommendations_total"
CACHE = "canet_cache_requests_total"


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
            Query(over(f"({FAILED} or vector(0))", rate(REQUESTS)), "errors"),
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
        (_red(), _time(), _overload(), _batches(), _answers(), _events()),
    )


def _red() -> Row:
    return Row(
        "Rate, errors, duration",
        (
            rates(
                "Requests by route",
                "Answered requests a second by route template; `unmatched` is what has none.",
                "reqps",
                REQUESTS,
                "route",
            ),
            rates(
                "Answers by status",
                "Answered requests a second by status.",
                "reqps",
                REQUESTS,
                "status",
            ),
            rates(
                "Server errors by route",
                "Answers a second with a status of 500 or above, by route template.",
                "reqps",
                REQUESTS,
                "route",
                where='status=~"5.."',
            ),
            slowest(
                "Duration by route, p95",
                "From the first byte in to the last out.",
                DURATION,
                "route",
                0.95,
                exemplars=True,
                width=24,
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
            spread(
                "Recommend latency",
                "Median, 95th and 99th percentile of recommendations; points are sampled traces.",
                "s",
                DURATION,
                shares={0.5: "p50", 0.95: "p95", 0.99: "p99"},
                where=RECOMMEND,
                exemplars=True,
                width=12,
            ),
            means(
                "Mean time by stage",
                "Redis, queue and serialising are per request; route, encode and score per batch.",
                STAGE,
                "stage",
                width=12,
            ),
            slowest(
                "Time by stage, p99",
                "The slowest hundredth of every stage.",
                STAGE,
                "stage",
                width=12,
            ),
        ),
    )


def _overload() -> Row:
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
                empty=NO_INSTANCE,
            ),
            graph(
                "Overload pressure",
                "0: the price as set; 1: the smallest networks answer. Then requests are refused.",
                "percentunit",
                Query("max(canet_overload_pressure)", "pressure"),
                empty=NO_INSTANCE,
                top=1,
            ),
            graph(
                "Price under overload",
                "What routing pays for compute now, the surcharge of overload included.",
                "short",
                Query("max(canet_compute_price)", "price"),
                Query('max(canet_compute_price_reason{reason="overload"})', "raised by overload"),
                empty=NO_INSTANCE,
            ),
            rates(
                "Turned away",
                "Requests a second answered with 429, by reason.",
                "reqps",
                "canet_refused_total",
                "reason",
            ),
            graph(
                "Queries refused by the full queue",
                "Queries a second for which the queue had no room.",
                "reqps",
                Query(rate("canet_queue_rejected_total"), "refused"),
                empty=NO_INSTANCE,
            ),
            graph(
                "Process CPU",
                "Cores that the processes use.",
                "short",
                Query(
                    f'sum by (instance) (rate(process_cpu_seconds_total{{job="canet"}}{RATE}))',
                    "{{instance}}",
                ),
                empty=NO_INSTANCE,
            ),
        ),
    )


def _batches() -> Row:
    return Row(
        "Batches",
        (
            spread(
                "Batch size",
                "Queries per engine call.",
                "short",
                "canet_batch_size",
                with_mean=True,
            ),
            rates(
                "Why batches were released",
                "Engine calls a second: `full`; `idle`, the worker had nothing to do; `alone`, one "
                "query behind another batch; `waited`, its oldest query had; `stopping`.",
                "ops",
                "canet_batch_released_total",
                "reason",
            ),
            levels(
                "Memory",
                "Resident memory of each process.",
                "bytes",
                "process_resident_memory_bytes",
                "instance",
                where='job="canet"',
            ),
        ),
    )


def _answers() -> Row:
    return Row(
        "What was answered",
        (
            rates(
                "Recommendations by source",
                "By the model, from the cache, or popular items for lack of a history or of time.",
                "reqps",
                ANSWERS,
                "source",
                stacked=True,
            ),
            rates(
                "Popular answers by why",
                "A second: nobody known, the history store away, or the deadline passed.",
                "reqps",
                "canet_popular_answers_total",
                "reason",
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
                    over(rate(CACHE, by="cache", where='result="hit"'), rate(CACHE, by="cache")),
                    "{{cache}}",
                ),
                empty="no look-ups",
                top=1,
            ),
            graph(
                "Blocked items",
                "Items that nobody is shown, as the instances know them: they part for a moment "
                "after a change.",
                "short",
                Query("max(canet_blocklist_items)", "most"),
                Query("min(canet_blocklist_items)", "least"),
                empty=NO_INSTANCE,
            ),
            graph(
                "Unknown items",
                "Ids a second that the catalog does not hold: new items, or another catalog.",
                "ops",
                Query(rate("canet_unknown_items_total"), "unknown"),
            ),
        ),
    )


def _events() -> Row:
    return Row(
        "Events",
        (
            rates(
                "Events by result",
                "Events a second that were new, known before, or refused.",
                "ops",
                "canet_events_total",
                "result",
            ),
            rates(
                "Events by type",
                "Events a second by type; unusual ones are `other`.",
                "ops",
                "canet_events_total",
                "type",
            ),
            rates(
                "Recommendations remembered",
                "A second, so that events can be booked on them: kept, or lost because the store "
                "was away or behind.",
                "ops",
                "canet_recommendation_records_total",
                "result",
            ),
        ),
    )

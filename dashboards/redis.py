"""The dashboard *Redis*: the history store as the service meets it."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as models

from dashboards.panels import GREEN, RED, YELLOW, Query, Row, dashboard, graph, heat, number
from dashboards.promql import mean, over, quantile, rate

DURATION = "canet_redis_operation_duration_seconds"
ERRORS = "canet_redis_errors_total"


def build() -> models.Dashboard:
    """Return the dashboard."""
    top = (
        number(
            "Reachable",
            "1 while every instance reached the store in its last operation or probe.",
            "short",
            Query("min(canet_redis_up)", "up"),
            empty="no instance",
            steps=((0, RED), (1, GREEN)),
        ),
        number(
            "Operations a second",
            "Store operations a second, attempts that failed included.",
            "ops",
            Query(rate(f"{DURATION}_count"), "operations"),
        ),
        number(
            "Failed operations",
            "Share of the attempts that failed.",
            "percentunit",
            Query(over(rate(ERRORS), rate(f"{DURATION}_count")), "failed"),
            steps=((0, GREEN), (0.001, YELLOW), (0.01, RED)),
            decimals=2,
        ),
        number(
            "Read p99",
            "99 of 100 histories are read within this time.",
            "s",
            Query(quantile(0.99, DURATION, where='op="recent"'), "p99"),
            steps=((0, GREEN), (0.01, YELLOW), (0.025, RED)),
        ),
    )
    return dashboard(
        "canet-redis",
        "Redis",
        "The history store as the service meets it: rate, failures and duration by operation.",
        top,
        (
            Row(
                "Operations",
                (
                    graph(
                        "Operations by kind",
                        "Attempts a second by operation.",
                        "ops",
                        Query(rate(f"{DURATION}_count", by="op"), "{{op}}"),
                    ),
                    graph(
                        "Duration by operation, p99",
                        "The slowest hundredth of the attempts.",
                        "s",
                        Query(quantile(0.99, DURATION, by="op"), "{{op}}"),
                    ),
                    graph(
                        "Mean duration by operation",
                        "Mean time of one attempt.",
                        "s",
                        Query(mean(DURATION, by="op"), "{{op}}"),
                    ),
                    heat(
                        "Duration, distribution",
                        "All attempts by duration; the time limit shows as an edge.",
                        "s",
                        rate(f"{DURATION}_bucket", by="le"),
                    ),
                    graph(
                        "Time the store takes of a recommendation",
                        "Mean time of the stage `redis`, waiting for a connection included.",
                        "s",
                        Query(mean("canet_stage_duration_seconds", where='stage="redis"'), "redis"),
                        width=12,
                    ),
                ),
            ),
            Row(
                "Failures",
                (
                    graph(
                        "Failed attempts by kind",
                        "A second; `breaker_open` was not even tried.",
                        "ops",
                        Query(rate(ERRORS, by="kind"), "{{kind}}"),
                        empty="no instance",
                    ),
                    graph(
                        "Failed attempts by operation",
                        "A second by operation.",
                        "ops",
                        Query(rate(ERRORS, by="op"), "{{op}}"),
                        empty="no instance",
                    ),
                    graph(
                        "Answers without a history",
                        "Recommendations a second that went out although the store was away.",
                        "reqps",
                        Query(rate("canet_degraded_total", where='reason="redis_down"'), "answers"),
                        empty="no instance",
                    ),
                ),
            ),
        ),
    )

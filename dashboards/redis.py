"""The dashboard *Redis*: the history store as the service meets it."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as models

from dashboards.panels import GREEN, RED, YELLOW, Query, Row, dashboard, graph, heat, number
from dashboards.promql import mean, over, quantile, rate
from dashboards.shapes import NO_INSTANCE, means, rates, slowest

DURATION = "canet_redis_operation_duration_seconds"
ERRORS = "canet_redis_errors_total"
IN_FLIGHT, LIMIT = "canet_redis_exchanges_in_flight", "canet_redis_connections_limit"


def build() -> models.Dashboard:
    """Return the dashboard."""
    top = (
        number(
            "Reachable",
            "1 while every instance reached the store in its last operation or probe.",
            "short",
            Query("min(canet_redis_up)", "up"),
            empty=NO_INSTANCE,
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
        "The history store as the service meets it: rate, failures and duration by operation, and "
        "how busy the connections are.",
        top,
        (_operations(), _use(), _failures()),
    )


def _operations() -> Row:
    return Row(
        "Operations",
        (
            rates(
                "Operations by kind",
                "Attempts a second by operation.",
                "ops",
                f"{DURATION}_count",
                "op",
            ),
            slowest(
                "Duration by operation, p99",
                "The slowest hundredth of the attempts.",
                DURATION,
                "op",
            ),
            means("Mean duration by operation", "Mean time of one attempt.", DURATION, "op"),
        ),
    )


def _use() -> Row:
    return Row(
        "Utilisation and saturation",
        (
            heat(
                "Duration, distribution",
                "All attempts by duration; the time limit shows as an edge.",
                "s",
                rate(f"{DURATION}_bucket", by="le"),
                width=8,
            ),
            graph(
                "Exchanges under way, and the connections for them",
                "Beyond the limit exchanges wait for a connection, and fail as `pool` after that.",
                "short",
                Query(f"sum({IN_FLIGHT})", "under way"),
                Query(f"sum({LIMIT})", "connections at most"),
                empty=NO_INSTANCE,
            ),
            graph(
                "Time the store takes of a recommendation",
                "Mean time of the stage `redis`, waiting for a connection included.",
                "s",
                Query(mean("canet_stage_duration_seconds", where='stage="redis"'), "redis"),
            ),
        ),
    )


def _failures() -> Row:
    return Row(
        "Failures",
        (
            rates(
                "Failed attempts by kind",
                "A second; `breaker_open` was not even tried.",
                "ops",
                ERRORS,
                "kind",
            ),
            rates("Failed attempts by operation", "A second by operation.", "ops", ERRORS, "op"),
            graph(
                "Answers without a history",
                "Recommendations a second that went out although the store was away.",
                "reqps",
                Query(rate("canet_degraded_total", where='reason="redis_down"'), "answers"),
                empty=NO_INSTANCE,
            ),
        ),
    )

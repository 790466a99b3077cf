"""The closed label sets and the buckets: no series exists whose labels are not drawn from here.

The exceptions are route templates, statuses, submodels and versions, which the service itself
names. Values outside a set are folded to `other`.
"""

from __future__ import annotations

from bisect import bisect_left

# Every latency objective is an edge; all durations share them, so that they compare.
LATENCY = (
    *(0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075),
    *(0.1, 0.25, 0.5, 1.0, 2.5),
)
REDIS_LATENCY = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
LENGTHS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
# Histories up to so many items; numbers sort as text on a dashboard when they are equally long.
ANSWER_LENGTHS = ("0008", "0016", "0032", "0064", "0128", "0256", "0512", "1024")
_MOST = tuple(map(int, ANSWER_LENGTHS))
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNMATCHED = "unmatched"
# Statuses whose counters exist before the first such answer; where no route matches, the others.
USUAL_STATUSES = (200, 422, 429, 500, 503)
UNMATCHED_STATUSES = (404, 405)

STAGES = ("redis", "queue", "route", "encode", "score", "serialise")
SOURCES = ("model", "cache", "popular")
VARIANTS = ("stable", "candidate", "shadow")
DEGRADED = ("redis_down", "deadline", "overload", "short_list")
OVERRIDES = ("full", "fixed", "max_ratio", "overload")
# Why popular items answered in the model's place.
POPULAR_REASONS = ("no_history", "redis_down", "deadline")
MOST_SUBMODELS = 36
OFFLINE_METRICS = (
    *("full_ndcg_10", "routed_ndcg_10", "full_hr_10", "routed_hr_10", "popularity_ndcg_10"),
    *("routed_flops_ratio", "density"),
)
SHADOW_RESULTS = ("compared", "dropped", "failed")
# Names of exceptions, and what they are called in a label.
CANDIDATE_FAILURES = {
    "EngineFailedError": "engine",
    "QueueFullError": "queue_full",
    "NoEngineError": "unloaded",
}
PRICE_REASONS = ("published", "set", "overload")
REFUSALS = ("queue", "overload", "rate_limit")

IMPRESSION = "impression"
EVENT_TYPES = ("view", "click", "like", "cart", "purchase", "play", "rate", IMPRESSION)
EVENT_RESULTS = ("accepted", "duplicate", "rejected")
# Why an event that names a recommendation is booked on none.
UNATTRIBUTED = ("unknown", "expired", "not_recommended", "unavailable", "unnamed")
RECORD_RESULTS = ("kept", "lost")
RELEASES = ("full", "idle", "alone", "gathered", "waited", "stopping")
CACHES = ("result",)
CACHE_RESULTS = ("hit", "miss")
REDIS_OPS = (
    *("append", "recent", "entries", "replace", "merge", "delete", "remember", "recall"),
    *("rate", "blocklist", "ping"),
)
REDIS_KINDS = (
    *("breaker_open", "pool", "connection", "timeout", "loading", "auth", "response", "other"),
)
OTHER = "other"
# Stands for the submodel of answers that no network gave.
NO_NETWORK = "none"


def length_label(length: int) -> str:
    """Return the first of ANSWER_LENGTHS that is not below `length`, else the last."""
    return ANSWER_LENGTHS[min(bisect_left(_MOST, length), len(ANSWER_LENGTHS) - 1)]

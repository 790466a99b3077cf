"""Counting without locks exposes what the library's own metrics would."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client import Counter as TheirCounter
from prometheus_client import Histogram as TheirHistogram
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics

from service.metrics.plain import Counter, Histogram

EDGES = (0.0, 0.5, 1.0, 2.5)


def without_created(text: bytes) -> list[str]:
    return [line for line in text.decode().splitlines() if "_created" not in line]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 100))),
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([*EDGES, 0.25, 3.0, 1e9]))),
)
def test_the_exposition_is_the_librarys(
    counted: list[tuple[str, float]], observed: list[tuple[str, float]]
) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    our_count = Counter("x_total", "What.", ("kind",), registry=ours)
    our_sizes = Histogram("y_seconds", "How.", ("kind",), buckets=EDGES, registry=ours)
    our_plain = Counter("z_total", "Bare.", (), registry=ours)
    their_count = TheirCounter("x_total", "What.", ("kind",), registry=theirs)
    their_sizes = TheirHistogram("y_seconds", "How.", ("kind",), buckets=EDGES, registry=theirs)
    their_plain = TheirCounter("z_total", "Bare.", registry=theirs)
    for kind, amount in counted:
        our_count.labels(kind).inc(amount)
        their_count.labels(kind).inc(amount)
        our_plain.inc()
        their_plain.inc()
    for kind, value in observed:
        our_sizes.labels(kind).observe(value)
        their_sizes.labels(kind).observe(value)
    writers: list[Callable[[CollectorRegistry], bytes]] = [generate_latest, openmetrics]
    for write in writers:
        assert without_created(write(ours)) == without_created(write(theirs))


def test_an_exemplar_stands_in_its_bucket() -> None:
    registry = CollectorRegistry()
    sizes = Histogram("y_seconds", "How.", (), buckets=EDGES, registry=registry)
    sizes.labels().observe(0.7, {"trace_id": "abc"})
    write: Callable[[CollectorRegistry], bytes] = openmetrics
    lines = write(registry).decode().splitlines()
    assert [line for line in lines if "abc" in line] == [
        line for line in lines if 'le="1.0"' in line
    ]


def test_what_cannot_be_counted_is_refused() -> None:
    registry = CollectorRegistry()
    counter = Counter("x_total", "What.", ("kind",), registry=registry)
    with pytest.raises(ValueError, match="only rises"):
        counter.labels("a").inc(-1)
    with pytest.raises(ValueError, match="labels"):
        counter.labels("a", "b")
    with pytest.raises(ValueError, match="Duplicated"):
        Counter("x_total", "Again.", (), registry=registry)

"""Traces as a collector gets them, and what is left of tracing when there is none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from service.settings import Settings, SettingsError
from service.tracing.opening import tracer_of
from service.tracing.traceparent import parse
from tests.service.fakes import FakeEngine, running
from tests.service.tracing.collector import Collector, collecting

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
NOT_SAMPLED = {"traceparent": f"00-{TRACE}-{SPAN}-00"}
STAGES = ["redis", "queue", "route", "encode", "score", "serialise"]


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


def attributes(span: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


async def seen(stack: Any, user: str = "alice") -> None:
    events = [{"user_id": user, "item_id": "i7", "type": "view"}]
    response = await stack.client.post("/v1/events", json={"events": events})
    assert response.status_code == 200


async def test_a_request_is_a_span_of_its_callers_trace_with_its_stages(
    collector: Collector,
) -> None:
    async with running(otlp_endpoint=collector.url, otlp_sample_ratio=0) as stack:
        await seen(stack)
        headers = {**SAMPLED, "tracestate": "vendor=1", "x-request-id": "r-1"}
        response = await stack.client.post("/recommend", json={"user_id": "alice"}, headers=headers)
    place = parse(response.headers["traceresponse"].encode())
    assert place is not None
    (span,) = collector.named("POST /recommend")
    assert collector.paths == ["/v1/traces"]
    assert collector.resources[0]["service.name"] == "canet-serve"
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, SPAN)
    assert (span.trace_id.hex(), span.span_id.hex()) == (place.trace_id, place.span_id)
    assert span.trace_state == "vendor=1"
    told = attributes(span)
    assert told["http.response.status_code"] == 200
    assert told["canet.request_id"] == "r-1"
    assert told["canet.submodel"] == response.json()["compute"]["submodel"]
    assert "alice" not in str(collector.spans)
    stages = [one for one in collector.spans if one.parent_span_id == span.span_id]
    assert [one.name for one in stages] == STAGES
    assert {one.trace_id for one in stages} == {span.trace_id}
    for one in stages:
        assert span.start_time_unix_nano <= one.start_time_unix_nano <= one.end_time_unix_nano
    # The rest is what the fake engine claims to have taken, which it has not.
    assert stages[0].end_time_unix_nano <= stages[1].start_time_unix_nano
    assert stages[-1].end_time_unix_nano <= span.end_time_unix_nano
    took = {one.name: one.end_time_unix_nano - one.start_time_unix_nano for one in stages}
    assert took["encode"] == pytest.approx(2_000_000, abs=2000)


async def test_the_caller_decides_else_the_lot_does(collector: Collector) -> None:
    body = {"history": ["i1"]}
    async with running(otlp_endpoint=collector.url, otlp_sample_ratio=1) as stack:
        await stack.client.post("/recommend", json=body, headers=NOT_SAMPLED)
        assert (await stack.client.post("/recommend", json=body)).headers["traceresponse"]
        await stack.client.get("/healthz")
        await stack.client.get("/metrics")
    requests = [span for span in collector.spans if not span.parent_span_id]
    assert [span.name for span in requests] == ["POST /recommend"]
    assert requests[0].trace_id.hex() != TRACE
    collector.spans.clear()
    async with running(otlp_endpoint=collector.url, otlp_sample_ratio=0) as stack:
        await stack.client.post("/recommend", json=body)
    assert collector.spans == []


async def test_failures_and_batches_are_told(collector: Collector) -> None:
    async with running(otlp_endpoint=collector.url, engine=FakeEngine()) as stack:
        poison = {"history": ["i1"], "candidates": ["poison"]}
        await stack.client.post("/recommend", json=poison, headers=SAMPLED)
        batch = {"requests": [{"history": ["i1"]}, {"history": ["i2"]}]}
        await stack.client.post("/v1/recommend/batch", json=batch, headers=SAMPLED)
        await stack.client.get("/no/such/route", headers=SAMPLED)
    (failed,) = collector.named("POST /recommend")
    assert failed.status.code == 2
    assert attributes(failed)["canet.code"] == "internal_error"
    (batched,) = collector.named("POST /v1/recommend/batch")
    assert attributes(batched)["canet.batch"] == 2
    assert len(collector.named("encode")) == 2
    (lost,) = collector.named("GET unmatched")
    assert lost.status.code == 0


async def test_a_collector_that_is_away_harms_nobody() -> None:
    async with running(otlp_endpoint="http://127.0.0.1:9", otlp_sample_ratio=1) as stack:
        response = await stack.client.post("/recommend", json={"history": ["i1"]})
        assert response.status_code == 200


async def test_sampled_traces_are_examples_of_the_histogram() -> None:
    async with running() as stack:
        body = {"history": ["i1"]}
        await stack.client.post("/recommend", json=body, headers=NOT_SAMPLED)
        accept = {"accept": "application/openmetrics-text; version=1.0.0"}
        assert TRACE not in (await stack.client.get("/metrics", headers=accept)).text
        await stack.client.post("/recommend", json=body, headers=SAMPLED)
        lines = (await stack.client.get("/metrics", headers=accept)).text.splitlines()
        plain = (await stack.client.get("/metrics")).text
    examples = [line for line in lines if f'# {{trace_id="{TRACE}"}}' in line]
    assert len(examples) == 1
    assert examples[0].startswith("canet_http_request_duration_seconds_bucket")
    assert 'route="/recommend"' in examples[0]
    assert TRACE not in plain


async def test_without_a_collector_the_callers_trace_is_carried_on() -> None:
    async with running() as stack:
        body = {"history": ["i1"]}
        response = await stack.client.post("/recommend", json=body, headers=SAMPLED)
        place = parse(response.headers["traceresponse"].encode())
        assert place is not None
        assert (place.trace_id, place.sampled) == (TRACE, True)
        assert place.span_id != SPAN
        headers = {"traceparent": "00-nonsense"}
        for answer in (
            await stack.client.post("/recommend", json=body, headers=headers),
            await stack.client.post("/recommend", json=body),
        ):
            assert answer.status_code == 200
            assert "traceresponse" not in answer.headers


def test_without_a_collector_nothing_of_it_is_imported() -> None:
    # The framework looks at the SDK itself where it is installed; the exporter is ours alone.
    program = (
        "import sys; from service.app import create_app; from service.settings import Settings\n"
        "create_app(Settings())\n"
        "ours = ('service.tracing.otlp', 'opentelemetry.exporter')\n"
        "print([name for name in sys.modules if name.startswith(ours)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "service.tracing.otlp", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(SettingsError, match=r"canet-serve\[otel\]"):
        tracer_of(Settings(otlp_endpoint="http://127.0.0.1:4318"), version="0")


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("http://c:4318", "http://c:4318/v1/traces"),
        ("https://c/", "https://c/v1/traces"),
        ("https://c/otlp/v1/traces", "https://c/otlp/v1/traces"),
    ],
)
def test_a_collectors_address_may_leave_the_usual_path_out(given: str, used: str) -> None:
    assert Settings.from_env({"CANET_OTLP_ENDPOINT": given}).otlp_endpoint == used


def test_what_is_no_address_of_a_collector_is_refused() -> None:
    for wrong in ("collector:4317", "grpc://collector:4317", "http://"):
        with pytest.raises(SettingsError, match="http://collector:4318"):
            Settings.from_env({"CANET_OTLP_ENDPOINT": wrong})

"""The committed dashboards are what the code makes, and Grafana's own schema knows all of it."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics import exposition as openmetrics

from dashboards.files import rendered
from service.metrics.metrics import Metrics
from tests.deploy.files import (
    DASHBOARDS,
    ROOT,
    compose,
    dashboards,
    env_file,
    panels,
    read_yaml,
    variables,
)

BOARDS = dashboards()


def test_the_committed_files_are_what_the_code_makes() -> None:
    committed = {path.name: path.read_bytes() for path in DASHBOARDS.iterdir()}
    made = {name: text.encode() for name, text in rendered().items()}
    assert committed == made, "run: python -m dashboards"


def test_the_four_dashboards_are_there() -> None:
    titles = {board["title"] for board in BOARDS.values()}
    assert titles == {"Compute saved", "Service", "Model and trainer", "Redis"}


def round_trip(board: dict[str, Any]) -> dict[str, Any]:
    parsed = Dashboard.from_json(board)
    found: dict[str, Any] = json.loads(json.dumps(parsed, cls=JSONEncoder))
    return found


@pytest.mark.parametrize("name", BOARDS)
def test_grafanas_schema_gives_back_what_it_reads(name: str) -> None:
    assert round_trip(BOARDS[name]) == BOARDS[name]


def test_a_field_that_grafana_does_not_know_is_noticed() -> None:
    board = json.loads(json.dumps(BOARDS["redis.json"]))
    panels(board)[0]["discription"] = "misspelt"
    assert round_trip(board) != board


def test_compose_mounts_what_provisioning_names() -> None:
    mounts = dict(
        volume.split(":")[:2]
        for volume in compose()["services"]["grafana"]["volumes"]
        if volume.startswith("./")
    )
    (provider,) = read_yaml(ROOT / "docker/grafana/provisioning/dashboards/canet.yml")["providers"]
    by_place = {place: source for source, place in mounts.items()}
    assert by_place[provider["options"]["path"]] == "./docker/grafana/dashboards"
    assert by_place["/etc/grafana/provisioning"] == "./docker/grafana/provisioning"
    home = compose()["services"]["grafana"]["environment"][
        "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"
    ]
    folder, _, name = str(home).rpartition("/")
    assert folder == provider["options"]["path"]
    assert name in BOARDS


def test_the_data_source_is_the_composes_prometheus() -> None:
    path = ROOT / "docker/grafana/provisioning/datasources/prometheus.yml"
    (source,) = read_yaml(path)["datasources"]
    scheme, _, place = source["url"].partition("://")
    host, _, port = place.partition(":")
    assert (scheme, port) == ("http", "9090")
    assert host in compose()["services"]
    config = read_yaml(ROOT / "docker/prometheus/prometheus.yml")
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]


def test_exemplars_lead_to_the_traces_that_compose_names() -> None:
    path = ROOT / "docker/grafana/provisioning/datasources/prometheus.yml"
    (source,) = read_yaml(path)["datasources"]
    (link,) = source["jsonData"]["exemplarTraceIdDestinations"]
    # Grafana puts in its environment, and two dollars stand for the one of its own variable.
    assert link["url"] == "${TRACES_URL}/$${__value.raw}"
    (default,) = variables(compose()["services"]["grafana"]["environment"]["TRACES_URL"]).values()
    assert urlsplit(default).scheme == "http"
    assert env_file(ROOT / ".env.example")["TRACES_URL"] == default
    metrics = Metrics(CollectorRegistry())
    metrics.create_routes([("POST", "/recommend")])
    metrics.http_answered("POST", "/recommend", 200, 0.004, trace_id="5" * 32)
    text = openmetrics.generate_latest(metrics.registry).decode()  # type: ignore[no-untyped-call]
    assert f'# {{{link["name"]}="{"5" * 32}"}} 0.004' in text


def test_panels_of_request_durations_show_exemplars() -> None:
    shown = [
        panel["title"]
        for panel in panels(BOARDS["service.json"])
        if any(target.get("exemplar") for target in panel["targets"])
    ]
    assert shown == ["Duration by route, p95", "Recommend latency"]

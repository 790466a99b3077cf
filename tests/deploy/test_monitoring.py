"""Dashboards, rules and alerts: well formed, tested, documented, over metrics that exist."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from service.metrics.metrics import Metrics
from tests.deploy.files import (
    ROOT,
    Expression,
    dashboards,
    panel_expressions,
    panels,
    read_yaml,
    rule_expressions,
    rules,
)
from training.refresh.metrics import RefreshMetrics

DASHBOARDS = dashboards()
ALERTS = [rule for _, rule in rules() if "alert" in rule]
RECORDED = {rule["record"] for _, rule in rules() if "record" in rule}
OPERATIONS = (ROOT / "docs/operations.md").read_text()
each_dashboard = pytest.mark.parametrize("name", DASHBOARDS)
each_alert = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: str(alert["alert"]))


def anchor(heading: str) -> str:
    """The fragment that a heading gets: lower case, words joined by dashes."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def test_the_two_dashboards_are_there_under_uids_of_their_own() -> None:
    titles = {dashboard["title"] for dashboard in DASHBOARDS.values()}
    assert {"Compute saved", "Service"} <= titles
    uids = Counter(dashboard["uid"] for dashboard in DASHBOARDS.values())
    assert set(uids.values()) == {1}


@each_dashboard
def test_every_panel_says_what_it_shows_in_which_unit_and_when_empty(name: str) -> None:
    for panel in panels(DASHBOARDS[name]):
        title = panel["title"]
        defaults = panel["fieldConfig"]["defaults"]
        assert panel["description"].endswith("."), title
        assert defaults["unit"], title
        assert defaults["noValue"], title


@each_dashboard
def test_ids_titles_and_queries_are_unique(name: str) -> None:
    dashboard = DASHBOARDS[name]
    for key in ("id", "title"):
        assert set(Counter(panel[key] for panel in dashboard["panels"]).values()) == {1}, key
    for panel in panels(dashboard):
        assert set(Counter(target["refId"] for target in panel["targets"]).values()) == {1}


@each_dashboard
def test_every_query_goes_to_the_provisioned_data_source(name: str) -> None:
    path = ROOT / "docker/grafana/provisioning/datasources/prometheus.yml"
    (source,) = read_yaml(path)["datasources"]
    wanted = {"type": source["type"], "uid": source["uid"]}
    for panel in panels(DASHBOARDS[name]):
        assert panel["datasource"] == wanted
        assert all(target["datasource"] == wanted for target in panel["targets"])


@each_dashboard
def test_panels_lie_side_by_side(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARDS[name]["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def exported() -> set[str]:
    """The names of every series that the service and the trainer expose."""
    registry = CollectorRegistry()
    Metrics(registry)
    RefreshMetrics(registry)
    suffixes = {
        "counter": ("_total",),
        "histogram": ("_bucket", "_sum", "_count"),
        "gauge": ("",),
    }
    return {
        family.name + suffix for family in registry.collect() for suffix in suffixes[family.type]
    }


def test_every_metric_in_dashboards_and_rules_is_exported_by_the_service() -> None:
    for expression in [*panel_expressions("1m", "30m"), *rule_expressions()]:
        assert expression.metrics <= exported(), expression.where


def test_a_misspelt_metric_would_be_noticed() -> None:
    planted = Expression(where="planted", text="rate(canet_compute_flop_total[1m])")
    assert planted.metrics - exported() == {"canet_compute_flop_total"}


def test_no_query_holds_a_variable_that_nobody_replaces() -> None:
    for expression in panel_expressions("1m", "30m"):
        assert "$" not in expression.text, expression.where


@each_alert
def test_every_alert_says_how_bad_it_is_and_links_what_to_do(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in {"page", "ticket"}
    page, _, fragment = alert["annotations"]["runbook_url"].partition("#")
    assert page == "docs/operations.md"
    headings = re.findall(r"^#+ (.*)$", OPERATIONS, re.MULTILINE)
    assert fragment in {anchor(heading) for heading in headings}
    assert alert["annotations"]["description"].endswith(".")


@each_alert
def test_every_alert_is_unit_tested_firing_and_quiet(alert: dict[str, Any]) -> None:
    names = [
        test["name"]
        for path in (ROOT / "docker/prometheus/tests").glob("*.test.yml")
        for test in read_yaml(path)["tests"]
    ]
    assert any(name.startswith(f"{alert['alert']} fires") for name in names)
    assert any(name.startswith(f"{alert['alert']} stays quiet") for name in names)


def test_every_recording_rule_is_unit_tested_and_every_one_used_exists() -> None:
    tested = (ROOT / "docker/prometheus/tests/rules.test.yml").read_text()
    assert all(name in tested for name in RECORDED)
    used = {name for alert in ALERTS for name in re.findall(r"canet:[\w:]+", alert["expr"])}
    assert used <= RECORDED


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_recorded_names_say_level_metric_and_operation(name: str) -> None:
    assert re.fullmatch(r"canet:[a-z_]+:([a-z0-9]+_)?(ratio_)?rate(5m|30m|1h|6h)", name)

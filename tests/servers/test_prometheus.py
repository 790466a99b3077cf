"""A real Prometheus scrapes the real service under load; every shipped expression has an answer."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from models.checkpoint.read import read_checkpoint
from models.price_curve import CurvePoint, share_at
from tests.deploy.files import (
    ROOT,
    RULES,
    Expression,
    panel_expressions,
    read_yaml,
    rule_expressions,
    rules,
)
from tests.servers.processes import free_port, required, running, wait_until
from training.datasets.synthetic import SyntheticConfig, generate, write
from training.pipeline import train
from training.plan import TrainRequest
from training.progress import Silent
from training.refresh.exposition import exposed
from training.refresh.metrics import RefreshMetrics

pytestmark = pytest.mark.servers

SCRAPE_SECONDS = 1
KEY = "key-of-all-scopes-for-the-live-check"
# What Grafana puts in for its variables at this scrape interval and a range of five minutes.
PANELS = panel_expressions(rate_interval="20s", time_range="5m")
RULE_EXPRESSIONS = rule_expressions()
RECORDED = sorted({rule["record"] for _, rule in rules() if "record" in rule})
ALERTS = sorted(rule["alert"] for _, rule in rules() if "alert" in rule)


@dataclass(slots=True, kw_only=True)
class Stack:
    """A service that has been asked, and the Prometheus that watched."""

    prometheus: str
    answers: list[dict[str, Any]]
    before: str = ""
    """What `/metrics` told when the models were loaded and nobody had asked yet."""
    exposition: str = ""
    at: float | None = None
    """When expressions are evaluated, Unix seconds; now while None."""

    def query(self, text: str) -> list[float]:
        """The value of every series; ValueError with Prometheus' words when it is refused."""
        # At one moment just after the load: a slow machine may be at it for minutes.
        params = {"query": text} if self.at is None else {"query": text, "time": str(self.at)}
        answer = httpx.get(f"{self.prometheus}/api/v1/query", params=params, timeout=30)
        body = answer.json()
        if body["status"] != "success":
            raise ValueError(body["error"])
        return [float(series["value"][1]) for series in body["data"]["result"]]

    def complaint(self, text: str) -> str | None:
        """What is wrong with an expression on this stack; None when it has a number to show."""
        try:
            values = self.query(text)
        except ValueError as error:
            return str(error)
        if not values:
            return "empty"
        return "NaN only" if all(math.isnan(value) for value in values) else None


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model root with one checkpoint, trained for a moment on a little made-up data."""
    place = tmp_path_factory.mktemp("trained")
    train_once(place, place / "models", seed=0)
    return place / "models"


def train_once(place: Path, root: Path, *, seed: int) -> str:
    """Publish a version under `root` and return its name."""
    plan = SyntheticConfig(users=300, items=120, topics=8, seed=seed)
    data, items = write(generate(plan), place / "data")
    train(TrainRequest(data=data, items=items, out=root, epochs=1, threads=1), Silent())
    return (root / "CURRENT").read_text().strip()


@pytest.fixture(scope="module")
def stack(
    models: Path, real_redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    binary = required("prometheus", "prometheus")
    second = train_once(tmp_path_factory.mktemp("second"), models, seed=1)
    place = tmp_path_factory.mktemp("stack")
    service_port, prometheus_port = free_port(), free_port()
    service = f"http://127.0.0.1:{service_port}"
    prometheus = f"http://127.0.0.1:{prometheus_port}"
    environ = {
        "CANET_MODEL_ROOT": str(models),
        "CANET_PORT": str(service_port),
        "CANET_REDIS_URL": real_redis_url,
        "CANET_REDIS_OP_TIMEOUT_MS": "1000",
        "CANET_DEADLINE_MS": "5000",
        "CANET_DRAIN_SECONDS": "0",
        "CANET_API_KEYS": f"read+write+admin:{KEY}",
    }
    trained = RefreshMetrics(CollectorRegistry())
    serve = [sys.executable, "-m", "service.serve"]
    watch = [
        binary,
        f"--config.file={place / 'prometheus.yml'}",
        f"--storage.tsdb.path={place / 'data'}",
        f"--web.listen-address=127.0.0.1:{prometheus_port}",
    ]
    with (
        exposed(trained, "127.0.0.1", 0) as trainer_port,
        running(serve, f"{service}/readyz", place / "service.log", environ),
        configured(place / "prometheus.yml", service_port, trainer_port),
        running(watch, f"{prometheus}/-/ready", place / "prometheus.log"),
    ):
        stack = Stack(prometheus=prometheus, answers=[])
        # rate() needs a sample from before the load: wait for the first scrape.
        wait_until(lambda: stack.query('up{job="canet"}') == [1.0], 30, "no scrape")
        with httpx.Client(base_url=service, timeout=30, headers={"X-API-Key": KEY}) as client:
            experiment(client, second)
            stack.before = client.get("/metrics").text
            for turn in range(6):
                stack.answers.extend(ask(client, turn))
                act(trained, turn)
                time.sleep(SCRAPE_SECONDS)
            stack.exposition = client.get("/metrics").text
        wait_until(
            lambda: stack.query("sum(canet_recommendations_total)") == [len(stack.answers)],
            30,
            "the counters have not arrived",
        )
        time.sleep(2 * SCRAPE_SECONDS)
        stack.at = time.time()
        yield stack


@contextmanager
def configured(path: Path, service_port: int, trainer_port: int) -> Iterator[None]:
    """Write the configuration that watches both."""
    jobs = {"canet": service_port, "canet-trainer": trainer_port}
    path.write_text(yaml.safe_dump(shipped_config(jobs)))
    yield


def shipped_config(ports: Mapping[str, int]) -> dict[str, Any]:
    """The shipped configuration; only where to look and how often is the test's."""
    config: dict[str, Any] = read_yaml(ROOT / "docker/prometheus/prometheus.yml")
    seconds = f"{SCRAPE_SECONDS}s"
    config["global"].update(scrape_interval=seconds, scrape_timeout=seconds)
    config["global"]["evaluation_interval"] = seconds
    config["rule_files"] = [str(RULES / "*.yml")]
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    for name, port in ports.items():
        del jobs[name]["dns_sd_configs"]
        jobs[name]["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]
    config["scrape_configs"] = [jobs[name] for name in ports]
    return config


def experiment(client: httpx.Client, version: str) -> None:
    """Make the other version candidate and shadow, for half and all of the users."""
    for side in ("candidate", "shadow"):
        body = {"version": version, "as": side}
        client.post("/v1/admin/model/reload", json=body).raise_for_status()
    shares = {"candidate_percent": 50, "shadow_percent": 100}
    client.put("/v1/admin/traffic", json=shares).raise_for_status()


def act(trainer: RefreshMetrics, turn: int) -> None:
    """Tell what a trainer tells: the real endpoint and metrics, without minutes of training."""
    trainer.runs.labels("published" if turn else "refused").inc()
    trainer.refused.labels("accuracy").inc()
    trainer.drained.labels("event").inc(40)
    trainer.ndcg.labels("live").set(0.1)
    trainer.ndcg.labels("new").set(0.11)
    trainer.last_ok.set(1)
    trainer.last_run.set(time.time())
    trainer.last_success.set(time.time())
    trainer.duration.set(12.0)


def ask(client: httpx.Client, turn: int) -> list[dict[str, Any]]:
    """Send one turn of mixed traffic; return every recommendation that was answered."""
    users = [f"load-{turn}-{number}" for number in range(8)]
    items = [f"i{number:06d}" for number in range(1, 9)]
    events = [
        {"user_id": user, "item_id": item}
        for place, user in enumerate(users)
        for item in items[: place + 1]
    ]
    client.post("/v1/events", json={"events": events}).raise_for_status()
    bodies: list[dict[str, Any]] = [{"user_id": user} for user in users]
    bodies += [
        {"history": items[:5], "compute": {"mode": "full"}},
        {"history": [*items[:2], "no-such-item"], "k": 3},
        {"user_id": f"nobody-{turn}"},
        {"history": items[:3], "candidates": items[3:5]},
        {"history": items[3:6]},  # asked again below and in later turns: the result cache answers
    ]
    answered = [client.post("/recommend", json=body).raise_for_status().json() for body in bodies]
    shown = [
        {
            "user_id": body["user_id"],
            "type": "impression",
            "items": [item["item_id"] for item in answer["items"]],
            "recommendation_id": answer["recommendation_id"],
        }
        for body, answer in zip(bodies, answered, strict=True)
        if "user_id" in body
    ]
    clicks = [{**one, "type": "click", "item_id": one["items"][0]} for one in shown]
    for click in clicks:
        del click["items"]
    client.post("/v1/events", json={"events": [*shown, *clicks]}).raise_for_status()
    batch = client.post("/v1/recommend/batch", json={"requests": bodies}).raise_for_status()
    answered += [entry["result"] for entry in batch.json()["results"]]
    assert client.post("/v1/recommend", json={"k": 0}).status_code == 422
    assert client.get("/no-such-page").status_code == 404
    client.get(f"/v1/users/{users[0]}/history").raise_for_status()
    client.get(f"/v1/items/{items[0]}/similar").raise_for_status()
    client.delete(f"/v1/users/{users[-1]}/history").raise_for_status()
    return answered


@pytest.mark.parametrize("expression", PANELS, ids=lambda expression: expression.where)
def test_every_panel_shows_numbers(stack: Stack, expression: Expression) -> None:
    assert stack.complaint(expression.text) is None, expression.text


@pytest.mark.parametrize("name", RECORDED)
def test_every_recording_rule_records_numbers(stack: Stack, name: str) -> None:
    assert stack.complaint(name) is None


@pytest.mark.parametrize("expression", RULE_EXPRESSIONS, ids=lambda expression: expression.where)
def test_every_series_that_a_rule_reads_exists(stack: Stack, expression: Expression) -> None:
    for metric in sorted(expression.metrics):
        assert stack.complaint(f"count({metric})") is None, metric


def test_everything_that_the_trainer_tells_arrives(stack: Stack) -> None:
    registry = CollectorRegistry()
    RefreshMetrics(registry)
    names = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in registry.collect()
    }
    asked = ("last_success_timestamp_seconds", "run_duration_seconds", "ndcg_10", "interactions")
    assert {f"canet_trainer_{name}" for name in (*asked, "refused_total")} <= names
    for name in sorted(names):
        assert stack.complaint(f'count({name}{{job="canet-trainer"}})') is None, name


def test_prometheus_evaluates_every_rule_without_an_error_and_nothing_fires(stack: Stack) -> None:
    groups = httpx.get(f"{stack.prometheus}/api/v1/rules", timeout=10).json()["data"]["groups"]
    loaded = [rule for group in groups for rule in group["rules"]]
    assert sorted(rule["name"] for rule in loaded) == sorted([*RECORDED, *ALERTS])
    assert {rule["health"] for rule in loaded} == {"ok"}, [rule.get("lastError") for rule in loaded]
    assert {rule["name"] for rule in loaded if rule.get("state") == "firing"} == set()


def test_a_misspelt_metric_and_a_wrong_query_are_caught(stack: Stack) -> None:
    assert stack.complaint("rate(canet_compute_flop_total[20s])") == "empty"
    assert "parse error" in (stack.complaint("rate(canet_compute_flops_total[20s)") or "")
    assert stack.complaint("canet_model_info / 0 * 0") == "NaN only"


def test_promtool_finds_nothing_to_complain_about(stack: Stack) -> None:
    """Names, units, types and help texts of everything that the service and the trainer expose."""
    promtool = required("promtool", "prometheus")
    trainer = CollectorRegistry()
    RefreshMetrics(trainer)
    for text in (stack.exposition, generate_latest(trainer).decode()):
        told = subprocess.run(
            [promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=30
        )
        assert (told.returncode, told.stdout, told.stderr) == (0, "", "")


def test_load_makes_no_new_series_but_those_of_statuses_it_was_answered_with(
    stack: Stack,
) -> None:
    new = series(stack.exposition) - series(stack.before)
    assert {name for name, _ in new} <= {"canet_http_requests_total"}
    assert series(stack.before) <= series(stack.exposition)


def series(exposition: str) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    return {
        (sample.name, frozenset(sample.labels.items()))
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    }


def test_a_scrape_stays_small_and_events_are_booked(stack: Stack) -> None:
    (samples,) = stack.query('scrape_samples_scraped{job="canet"}')
    assert 500 < samples <= 2000
    told = sum(answer["variant"] == "candidate" for answer in stack.answers)
    assert told > 0
    for variant in ("stable", "candidate"):
        clicks = f'sum(canet_attributed_events_total{{type="click",variant="{variant}"}})'
        assert stack.query(clicks)[0] > 0, variant
    (lost,) = stack.query('sum(canet_recommendation_records_total{result="lost"})')
    assert lost or stack.query("sum(canet_unattributed_events_total)") == [0.0]
    assert stack.query('sum(canet_cache_requests_total{result="hit"})')[0] > 0


def test_the_budget_is_what_the_checkpoint_expects_of_the_price(stack: Stack, models: Path) -> None:
    version = (models / "CURRENT").read_text().strip()
    stored = read_checkpoint(models / version).manifest.router.price_curve
    curve = sorted(CurvePoint(point.price, point.flops_ratio) for point in stored)
    (price,) = stack.query("canet_compute_price")
    assert stack.query("canet_compute_budget_ratio") == [pytest.approx(share_at(curve, price))]


def test_the_flops_that_prometheus_counts_are_those_of_the_answers(stack: Stack) -> None:
    for metric, field in (
        ("canet_compute_flops_total", "flops"),
        ("canet_compute_baseline_flops_total", "flops_full"),
    ):
        told = sum(answer["compute"][field] for answer in stack.answers)
        assert stack.query(f"sum({metric})") == [told]
    by_submodel = stack.query("sum(canet_submodel_requests_total)")
    assert by_submodel == [sum(answer["source"] == "model" for answer in stack.answers)]

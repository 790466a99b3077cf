"""Be a client of the demo's service: write events, ask, and hold the answers to their word."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx

from cli.progress import ConsoleProgress
from models.checkpoint.contents import Checkpoint

_REQUESTS = 400
_PARTS = ("router", "encoder", "scoring")


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the client saw. Latencies are milliseconds of whole requests, one after another."""

    requests: int
    failed: int
    p50_ms: float
    p99_ms: float
    full_p50_ms: float
    submodels: dict[str, int]
    saved_ratio: float
    example_user: str
    example: dict[str, Any]
    checks: dict[str, bool] = field(default_factory=dict)


def try_out(
    url: str,
    histories: list[tuple[str, ...]],
    checkpoint: Checkpoint,
    progress: ConsoleProgress,
) -> Findings:
    """Write the histories as users' events, then ask for each of them again and again."""
    with httpx.Client(base_url=url, timeout=10) as client:
        users = _write_histories(client, histories)
        before = _flops(client)
        answers, times = _ask(client, users, {}, progress, "asking, routed")
        after = _flops(client)
        _, full_times = _ask(client, users, {"mode": "full"}, progress, "asking, full network")
        checks = {
            "every request was answered with 200": all(answer is not None for answer in answers),
            "FLOPs counters equal the sum over the answers": _adds_up(answers, before, after),
            "an event shows in the very next answer": _reads_its_writes(client, checkpoint),
            "an unknown user gets popular items, flagged": _unknown_user(client),
            "bad input is refused with the field named": _bad_input(client),
        }
        example = client.post("/recommend", json={"user_id": users[0], "k": 3}).json()
    good = [answer for answer in answers if answer is not None]
    spent = sum(answer["compute"]["flops"] for answer in good)
    full = sum(answer["compute"]["flops_full"] for answer in good)
    return Findings(
        requests=len(answers),
        failed=len(answers) - len(good),
        p50_ms=statistics.median(times),
        p99_ms=statistics.quantiles(times, n=100)[98],
        full_p50_ms=statistics.median(full_times),
        submodels=dict(Counter(answer["compute"]["submodel"] for answer in good).most_common()),
        saved_ratio=1 - spent / full if full else 0.0,
        example_user=users[0],
        example=example,
        checks=checks,
    )


def _write_histories(client: httpx.Client, histories: list[tuple[str, ...]]) -> list[str]:
    users = []
    now = time.time()
    for place, items in enumerate(histories):
        user = f"demo-{place}"
        events = [
            {"user_id": user, "item_id": item, "timestamp": now - 60 * (len(items) - age)}
            for age, item in enumerate(items)
        ]
        client.delete(f"/v1/users/{user}/history").raise_for_status()
        client.post("/v1/events", json={"events": events}).raise_for_status()
        users.append(user)
    return users


def _ask(
    client: httpx.Client,
    users: list[str],
    compute: dict[str, str],
    progress: ConsoleProgress,
    description: str,
) -> tuple[list[dict[str, Any] | None], list[float]]:
    answers: list[dict[str, Any] | None] = []
    times: list[float] = []
    with progress.track(description, _REQUESTS) as advance:
        for number in range(_REQUESTS):
            body: dict[str, Any] = {"user_id": users[number % len(users)], "k": 10}
            if compute:
                body["compute"] = compute
            began = time.perf_counter()
            response = client.post("/recommend", json=body)
            times.append(1e3 * (time.perf_counter() - began))
            answers.append(response.json() if response.status_code == 200 else None)
            advance(1)
    return answers, times


def _flops(client: httpx.Client) -> tuple[float, float]:
    """Return (spent, full) of the Prometheus counters."""
    sums = {"canet_compute_flops_total": 0.0, "canet_compute_baseline_flops_total": 0.0}
    for line in client.get("/metrics").text.splitlines():
        name = line.partition("{")[0]
        if name in sums:
            sums[name] += float(line.rsplit(" ", 1)[1])
    return sums["canet_compute_flops_total"], sums["canet_compute_baseline_flops_total"]


def _adds_up(
    answers: list[dict[str, Any] | None],
    before: tuple[float, float],
    after: tuple[float, float],
) -> bool:
    computes = [a["compute"] for a in answers if a is not None and a["source"] == "model"]
    spent = sum(compute["flops"] for compute in computes)
    full = sum(compute["flops_full"] for compute in computes)
    return (after[0] - before[0], after[1] - before[1]) == (float(spent), float(full))


def _reads_its_writes(client: httpx.Client, checkpoint: Checkpoint) -> bool:
    user = "demo-read-your-writes"
    client.delete(f"/v1/users/{user}/history").raise_for_status()
    first, second = checkpoint.catalog.external_ids[:2]
    for item in (first, second):
        event = {"user_id": user, "item_id": item}
        client.post("/v1/events", json={"events": [event]}).raise_for_status()
        answer = client.post("/recommend", json={"user_id": user, "k": 20}).json()
        if answer["source"] != "model" or item in {row["item_id"] for row in answer["items"]}:
            return False
    return bool(answer["history_length"] == 2)


def _unknown_user(client: httpx.Client) -> bool:
    answer = client.post("/recommend", json={"user_id": "nobody-knows-me"}).json()
    return bool(answer["source"] == "popular" and answer["items"])


def _bad_input(client: httpx.Client) -> bool:
    response = client.post("/recommend", json={"user_id": "u", "k": 0})
    problem = response.json()
    return (
        response.status_code == 422
        and response.headers["content-type"].startswith("application/problem+json")
        and [error["pointer"] for error in problem["errors"]] == ["/k"]
    )

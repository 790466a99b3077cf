"""One screen of live numbers, drawn with rich."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from cli.top_reading import Change, Reading

_BAR = 24
_ROUTES = ("/recommend", "/v1/recommend")


def view(before: Reading, now: Reading, url: str) -> RenderableType:
    """Return the screen for what happened between the two readings of the service at `url`."""
    change = Change(before=before, now=now)
    return Group(
        _headline(change, url),
        Columns([_compute(change), _mix(change), _traffic(change), _latency(change)]),
        _models(now),
    )


def _headline(change: Change, url: str) -> Text:
    now = change.now
    up = now.by("canet_redis_up").get("", 0.0) >= 1
    line = Text.assemble(("canet top ", "bold"), url, "   ")
    line.append("Redis up" if up else "Redis AWAY", style="green" if up else "bold red")
    line.append(f"   in flight {now.by('canet_http_requests_in_flight').get('', 0):.0f}")
    line.append(f"   queue {now.by('canet_queue_depth').get('', 0):.0f}")
    line.append(f"   last {change.now.at - change.before.at:.1f} s")
    return line


def _compute(change: Change) -> Panel:
    cpu = change.total("canet_inference_cpu_seconds_total")
    cpu -= change.total("canet_inference_cpu_seconds_total", variant="shadow")
    baseline = change.total("canet_inference_baseline_cpu_seconds_total")
    rows = {
        "FLOPs saved": _share(
            change.saved("canet_compute_flops_total", "canet_compute_baseline_flops_total")
        ),
        "CPU saved (estimate)": _share(1 - cpu / baseline if baseline > 0 else None),
        "FLOPs a second": _large(change.total("canet_compute_flops_total")),
        "engine cores": f"{cpu:.2f}",
        "price": f"{change.now.by('canet_compute_price').get('', 0):.3g}",
        "budget, spent": f"{_share(_budget(change.now))}, {_share(_spent(change))}",
    }
    return _panel("Compute", rows)


def _budget(now: Reading) -> float | None:
    share = now.by("canet_compute_budget_ratio").get("", math.nan)
    return None if math.isnan(share) else share


def _spent(change: Change) -> float | None:
    saved = change.saved("canet_compute_flops_total", "canet_compute_baseline_flops_total")
    return None if saved is None else 1 - saved


def _mix(change: Change) -> Panel:
    rates = change.rate("canet_submodel_requests_total", "submodel")
    whole = sum(rates.values())
    table = Table.grid(padding=(0, 1))
    for name, rate in sorted(rates.items(), key=lambda pair: -pair[1]):
        share = rate / whole if whole else 0.0
        table.add_row(name, f"{share:5.0%}", Text("█" * round(share * _BAR), style="cyan"))
    return Panel(table, title="Submodel mix", expand=False)


def _traffic(change: Change) -> Panel:
    errors = sum(
        rate
        for status, rate in change.rate("canet_http_requests_total", "status").items()
        if status.startswith("5")
    )
    rows = {
        "requests/s": f"{change.total('canet_http_requests_total'):.1f}",
        "server errors/s": f"{errors:.2f}",
        "refused/s": f"{change.total('canet_refused_total'):.2f}",
        "overload pressure": _share(change.now.by("canet_overload_pressure").get("")),
        **_prefixed("answers", change.rate("canet_recommendations_total", "source")),
        **_prefixed("degraded", _some(change.rate("canet_degraded_total", "reason"))),
    }
    return _panel("Traffic", rows)


def _latency(change: Change) -> Panel:
    name = "canet_http_request_duration_seconds"
    rows = {
        f"recommend p{share * 100:.0f}": _longest(
            change.quantile(share, name, route=route) for route in _ROUTES
        )
        for share in (0.5, 0.95, 0.99)
    }
    sums = change.rate("canet_stage_duration_seconds_sum", "stage")
    counts = change.rate("canet_stage_duration_seconds_count", "stage")
    for stage, spent in sums.items():
        rows[f"stage {stage}"] = _time(spent / counts[stage] if counts.get(stage) else None)
    return _panel("Latency", rows)


def _models(now: Reading) -> RenderableType:
    table = Table(title="Models", title_justify="left", box=None)
    for column in ("variant", "version", "digest", "NDCG@10 as routed"):
        table.add_column(column)
    offline = "canet_model_offline_metric"
    for labels in sorted(now.labels("canet_model_info"), key=lambda one: one["variant"]):
        found = now.by(offline, "metric", variant=labels["variant"]).get("routed_ndcg_10")
        told = "-" if found is None else f"{found:.4f}"
        table.add_row(labels["variant"], labels["version"], labels["digest"][:12], told)
    return table if table.row_count else Text("no model is loaded", style="bold red")


def _panel(title: str, rows: Mapping[str, str]) -> Panel:
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    for name, value in rows.items():
        table.add_row(name, value)
    return Panel(table, title=title, expand=False)


def _prefixed(prefix: str, rates: Mapping[str, float]) -> dict[str, str]:
    return {f"{prefix} {name}/s": f"{rate:.1f}" for name, rate in rates.items()}


def _some(rates: Mapping[str, float]) -> dict[str, float]:
    return {name: rate for name, rate in rates.items() if rate > 0}


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.1f} ms"


def _longest(values: Iterable[float | None]) -> str:
    return _time(max((value for value in values if value is not None), default=None))


def _large(value: float) -> str:
    for unit in ("", "k", "M", "G", "T"):
        if abs(value) < 1000:
            return f"{value:.1f}{unit}"
        value /= 1000
    return f"{value:.1f}P"

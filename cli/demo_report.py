"""What the demo prints: accuracy, savings, latency, checks, and what to try next."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.table import Table

from cli.demo_client import Findings
from models.checkpoint.contents import Checkpoint

_NAMES = {
    "full": "always full",
    "routed": "routed (served)",
    "random": "random, same cost",
    "static": "static, no dearer",
    "window5": "window5 counts",
    "popularity": "popularity",
}


def print_accuracy(checkpoint: Checkpoint) -> None:
    """Print held-out accuracy and cost of the routed network beside its baselines."""
    rows: list[dict[str, Any]] = checkpoint.evaluation["rows"]
    print("\nHeld-out accuracy: each user's last item, the whole catalog ranked")
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for column in ("", "submodel", "NDCG@10", "HR@10", "FLOPs", "routed ahead by (95 %)"):
        table.add_column(
            column, justify="left" if column in {"", "submodel"} else "right", no_wrap=True
        )
    for name, title in _NAMES.items():
        row = next((row for row in rows if row["name"] == name), None)
        if row is not None:
            table.add_row(
                title,
                row.get("submodel") or "",
                f"{row['ndcg@10']:.4f}",
                f"{row['hr@10']:.4f}",
                _share(row.get("flops_ratio")),
                _difference(row),
            )
    Console().print(table)


def print_service(findings: Findings, url: str) -> None:
    """Print what the client measured."""
    print(f"\n{findings.requests} requests to {url}, one after another, {findings.failed} failed")
    print(f"  compute saved   {findings.saved_ratio:.1%} of the full network's FLOPs")
    print(f"  latency         p50 {findings.p50_ms:.1f} ms, p99 {findings.p99_ms:.1f} ms")
    print(f"  always full     p50 {findings.full_p50_ms:.1f} ms")
    mix = ", ".join(f"{name} x{count}" for name, count in findings.submodels.items())
    print(f"  submodels       {mix}")


def print_verdict(checkpoint: Checkpoint, findings: Findings, seconds: float) -> bool:
    """Print every check and return whether all held."""
    names = {row["name"] for row in checkpoint.evaluation["rows"]}
    checks = {
        "full, routed, random and static were evaluated": {
            "full",
            "routed",
            "random",
            "static",
        }
        <= names,
        **findings.checks,
        "compute was saved": findings.saved_ratio > 0,
    }
    print()
    for text, held in checks.items():
        print(f"  {'ok  ' if held else 'FAIL'} {text}")
    print(f"\ndone in {seconds:.0f} seconds")
    return all(checks.values())


def print_next_steps(url: str, findings: Findings) -> None:
    """Print a request to try, its answer, and where to look."""
    body = json.dumps({"user_id": findings.example_user, "k": 3, "include": ["attributes"]})
    print("\ntry:")
    print(f"  curl -s {url}/recommend -H 'content-type: application/json' -d '{body}'")
    print("answer (shortened):")
    print("  " + json.dumps(findings.example))
    print(
        f"OpenAPI {url}/openapi.json   metrics {url}/metrics   Ctrl-C stops the service", flush=True
    )


def _share(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.1%}"


def _difference(row: dict[str, Any]) -> str:
    if row.get("difference") is None:
        return ""
    return f"{row['difference']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"

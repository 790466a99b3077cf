"""Exact top-k over large catalogs: the 4-bit scan against one full product plus top-k.

The baseline is given every help: its output is allocated beforehand, its filter stands ready as a
vector of 0 and -inf to add, and it needs no tie rule. Both answer the same queries.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bench.machine import machine
from bench.report import Report, Value, median, spread
from models.search.contract import Found, Wanted
from models.search.search import CatalogSearch
from models.table.table import whole_table

KINDS = ("gaussian", "trained-like")


@dataclass(frozen=True, slots=True)
class _Case:
    """One table, one way of asking."""

    search: CatalogSearch
    table: torch.Tensor
    bias: torch.Tensor
    batch: int
    k: int
    allowed: Any
    build_seconds: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this subcommand's options."""
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--width", type=int, default=64, help="columns of the table (64)")
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--filter", type=float, default=0.5, help="share of rows that pass (0.5)")
    parser.add_argument("--kind", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> None:
    """Measure and print; ValueError when an option makes no sense."""
    if min(*args.rows, *args.batch, args.rounds, args.k, args.width) < 1:
        raise ValueError("rows, batch, rounds, k and width are at least 1")
    if not 0 < args.filter <= 1:
        raise ValueError(f"--filter {args.filter} is outside (0, 1]")
    torch.set_num_threads(1)
    lines: list[dict[str, Value]] = []
    rounds: list[dict[str, Any]] = []
    for kind in args.kind:
        for rows in args.rows:
            rng = np.random.default_rng(args.seed)
            table, bias = make_table(rng, kind, rows + 1, args.width)
            allowed = rng.random(rows + 1) < args.filter if args.filter < 1 else None
            began = time.perf_counter()
            search = CatalogSearch(whole_table(table), bias, (args.width,), index_from=0)
            built = time.perf_counter() - began
            for batch in args.batch:
                case = _Case(search, table, bias, batch, args.k, allowed, built)
                line, raw = _measure(rng, case, args.rounds)
                lines.append({"table": kind, "rows": rows, "batch": batch, **line})
                rounds.append({"table": kind, "rows": rows, "batch": batch, **raw})
    Report(
        name="search",
        method=(
            f"Exact top-{args.k}, width {args.width}, {args.filter:.0%} of the rows pass the"
            " filter, 50 rows excluded per query, no transition memory.",
            f"Baseline: addmm into a ready buffer, add a ready 0/-inf filter, torch.topk."
            f" {args.rounds} rounds, alternating, new queries each round, medians per request;"
            " ratio of the medians with the lowest and highest round. One thread; CPU milliseconds,"
            " which other work on the machine disturbs less than wall time.",
            "Every answer is compared with the baseline's scores (1e-4 relative).",
            "Gaussian tables are the worst case: no norm, cluster or column tells rows apart.",
        ),
        machine=machine(),
        rows=lines,
        rounds=rounds,
    ).show(as_json=args.json)


def make_table(
    rng: np.random.Generator, kind: str, rows: int, width: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (table, item bias) float32; row 0 is zero.

    `trained-like` rows lie in 200 clusters, have a power-law spectrum, and norms and biases that
    fall with popularity, that is with the row.
    """
    table = rng.standard_normal((rows, width), dtype=np.float32)
    bias = 0.1 * rng.standard_normal(rows, dtype=np.float32)
    if kind == "trained-like":
        centres = rng.standard_normal((200, width), dtype=np.float32)
        table *= 0.7
        table += centres[rng.integers(0, len(centres), rows)]
        table *= np.arange(1, width + 1, dtype=np.float32) ** -0.5
        popularity = np.arange(1, rows + 1, dtype=np.float32) ** -0.1
        table *= popularity[:, None]
        bias += 2 * popularity
    table[0] = 0.0
    return torch.from_numpy(table), torch.from_numpy(bias)


def _measure(
    rng: np.random.Generator, case: _Case, rounds: int
) -> tuple[dict[str, Value], dict[str, Any]]:
    rows, width = case.table.shape
    scores = torch.empty(case.batch, rows)
    penalty = torch.zeros(rows)
    penalty[0] = -torch.inf
    if case.allowed is not None:
        penalty[torch.from_numpy(~case.allowed)] = -torch.inf
    slow: list[float] = []
    fast: list[float] = []
    found: list[Found] = []
    for number in range(rounds + 1):
        points = case.table[torch.from_numpy(rng.integers(1, rows, case.batch))]
        noise = torch.from_numpy(rng.standard_normal((case.batch, width), dtype=np.float32))
        query = points / points.norm(dim=1, keepdim=True) * width**0.5 + 0.5 * noise
        excluded = rng.integers(1, rows, (case.batch, 50))
        wanted = [
            Wanted(k=case.k, excluded=row.tolist(), allowed_V=case.allowed) for row in excluded
        ]
        expected, baseline = _timed(
            lambda q=query, e=excluded: _baseline(case, q, scores, penalty, torch.from_numpy(e))  # type: ignore[misc]
        )
        found, ours = _timed(lambda q=query, w=wanted: case.search.top(q, w))  # type: ignore[misc]
        _compare(expected, found)
        if number:  # the first round warms up
            slow.append(baseline * 1e3 / case.batch)
            fast.append(ours * 1e3 / case.batch)
    line: dict[str, Value] = {
        "product + topk CPU ms": median(slow),
        "search CPU ms": median(fast),
        "faster": median(slow) / median(fast),
        "rounds": spread([a / b for a, b in zip(slow, fast, strict=True)]),
        "scanned": round(median([one.scanned for one in found])),
        "checked": round(median([one.checked for one in found])),
        "index MB": case.search.index_bytes / 1e6,
        "build s": case.build_seconds,
    }
    return line, {"baseline_ms": slow, "search_ms": fast}


def _baseline(
    case: _Case,
    query: torch.Tensor,
    scores: torch.Tensor,
    penalty: torch.Tensor,
    excluded: torch.Tensor,
) -> torch.Tensor:
    with torch.inference_mode():
        torch.addmm(case.bias, query, case.table.T, out=scores)
        scores += penalty
        scores.scatter_(1, excluded, -torch.inf)
        return torch.topk(scores, min(case.k, len(penalty)), dim=1).values


def _compare(expected: torch.Tensor, found: list[Found]) -> None:
    for best, one in zip(expected, found, strict=True):
        theirs = best[best > -torch.inf].tolist()
        if not np.allclose(theirs, one.scores, rtol=1e-4, atol=1e-4):
            raise RuntimeError(f"the search found {one.scores}, the product {theirs}")


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    began = time.thread_time()
    out = call()
    return out, time.thread_time() - began

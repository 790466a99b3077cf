"""One elastic checkpoint at several budgets: every search beside the others, on the test users.

Every choice is made on the measurements of training or on validation users; the test part is opened
once, at the end. Each checkpoint is written, read back through every check and ranked by the code
that serves, every user with the submodel that its router picks at the checkpoint's price.
"""

# U cases, G item groups

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.machine import machine
from bench.report import Report, Value
from models.checkpoint.contents import Checkpoint
from models.checkpoint.elastic import SEARCHES, Search
from models.checkpoint.ranker import ranker_of
from models.checkpoint.read import read_checkpoint
from models.checkpoint.store import current
from models.checkpoint.write import write_checkpoint
from models.table.layout import dense_layout
from models.table.resident import resident_bytes
from training.data.split import EvalCases
from training.elastic.from_data import split_of
from training.elastic.search.evolution import EvolutionConfig
from training.elastic.specialize import elastic_of, probe_of, specialize
from training.evaluate.bootstrap import compare, interval
from training.evaluate.lists import top_lists
from training.evaluate.metrics import ndcg_at
from training.evaluate.quality import ranks_by_submodel, routed_places
from training.fit.cases import sample_cases
from training.progress import Silent

_TOP = 10
_QUICK_CASES = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("root", type=Path, metavar="ROOT", help="model root of canet train --elastic")
    add("--data", type=Path, required=True, metavar="FILE", help="the interactions it learned from")
    add(
        "--shares",
        type=_shares,
        default=(0.5, 0.25, 0.1, 0.05),
        metavar="S,S",
        help="budgets, shares of the whole table's bytes (default: 0.5,0.25,0.1,0.05)",
    )
    add("--randoms", type=int, default=3, help="random choices, their mean is told (%(default)s)")
    add("--cases", type=int, default=1_000, help="validation users of evolution (%(default)s)")
    add("--most", type=int, metavar="N", help="rank N test users only (default: all)")
    add("--seed", type=int, default=0, help="default: %(default)s")
    add("--quick", action="store_true", help="short searches and few users: shows that it runs")
    add("--json", action="store_true", help="print the result as JSON")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One search at one budget, on the test users. `ndcg_U` is the mean over random choices."""

    search: str
    share: float
    table_bytes: int
    seconds: float
    expected: float
    widths: str
    ndcg_U: NDArray[np.float64]
    tail: float
    """Share of all top 10 that the less popular half of the items has."""


def run(args: argparse.Namespace) -> None:
    """Specialise, rank the test users, print; ValueError when there is nothing to compare."""
    version = current(args.root)
    if version is None:
        raise ValueError(f"{args.root} has no CURRENT; train with canet train --elastic")
    checkpoint = read_checkpoint(args.root / version)
    elastic_of(checkpoint)
    parts = split_of(checkpoint, args.data, columns=None, strict=False, progress=Silent())
    most = _QUICK_CASES if args.quick else args.cases
    validation = sample_cases(parts.validation, most, args.seed)
    evolution = EvolutionConfig(seed=args.seed)
    if args.quick:
        evolution = EvolutionConfig(labels=4, rounds=1, checked=1, generations=2, seed=args.seed)
    test = parts.open_test()
    limit = _QUICK_CASES if args.quick else args.most
    test = test if limit is None else sample_cases(test, limit, args.seed)
    config = checkpoint.config
    whole = resident_bytes(dense_layout(config.rows, config.emb_width), len(config.emb_widths))
    base = _ranked(checkpoint, test)
    rows = []
    probe = probe_of(checkpoint, validation)
    with tempfile.TemporaryDirectory() as directory:
        for share in args.shares:
            for search in SEARCHES:
                seeds = range(args.randoms) if search == "random" else (args.seed,)
                made = []
                for seed in seeds:
                    began = time.monotonic()
                    found = specialize(
                        checkpoint,
                        budget=int(share * whole),
                        search=search,
                        probe=probe if search == "evolution" else None,
                        evolution=evolution,
                        seed=seed,
                    )
                    root = Path(directory)
                    path = root / write_checkpoint(root, found.contents)
                    made.append((found.entry, time.monotonic() - began, read_checkpoint(path)))
                rows.append(_row(search, share, made, test))
    base_U, base_tail = base
    best = {row.share: row for row in rows if row.search == "knapsack"}
    Report(
        name="One elastic training, any memory budget",
        method=(
            f"{version}, whole tables {whole:,} bytes; {len(test):,} test users, opened once, "
            "each with the submodel routed at the checkpoint's price.",
            f"random: the mean of {args.randoms} choices. evolution: {len(validation):,} "
            "validation users. tail: share of all top 10 that the less popular half has.",
            *(("--quick: shows that it runs, no more.",) if args.quick else ()),
        ),
        machine=machine(),
        rows=[_told(row, best[row.share], base_U, args.seed) for row in rows],
        findings=(f"Whole rows: NDCG@10 {base_U.mean():.4f}, tail {base_tail:.1%}.",),
    ).show(as_json=args.json)


def _row(
    search: Search, share: float, made: Sequence[tuple[Any, float, Checkpoint]], test: EvalCases
) -> Row:
    ranked = [_ranked(checkpoint, test) for _, _, checkpoint in made]
    entry = made[0][0]
    return Row(
        search=search,
        share=share,
        table_bytes=max(one.table_bytes for one, _, _ in made),
        seconds=max(seconds for _, seconds, _ in made),
        expected=float(np.mean([one.expected_ndcg_10 for one, _, _ in made])),
        widths=" ".join(map(str, entry.widths)),
        ndcg_U=np.mean([ndcg_U for ndcg_U, _ in ranked], axis=0),
        tail=float(np.mean([tail for _, tail in ranked])),
    )


def _ranked(checkpoint: Checkpoint, cases: EvalCases) -> tuple[NDArray[np.float64], float]:
    """Return (NDCG@10 of every case as routed, the less popular half's share of the top 10)."""
    manifest = checkpoint.manifest
    ranker = ranker_of(checkpoint)
    exclude_seen = not manifest.repeats
    places_U = routed_places(ranker, cases, manifest.router.price)
    needed = np.unique(places_U)
    ranks_US = ranks_by_submodel(ranker, cases, exclude_seen=exclude_seen, places=needed.tolist())
    ranks_U = ranks_US[np.arange(len(cases)), np.searchsorted(needed, places_U)]
    shown = top_lists(ranker, cases, places_U, exclude_seen=exclude_seen)[:, :_TOP]
    shown = shown[shown > 0]
    return ndcg_at(ranks_U, _TOP), float((shown > ranker.config.num_items / 2).mean())


def _told(row: Row, best: Row, base_U: NDArray[np.float64], seed: int) -> dict[str, Value]:
    """Return a line of the table; differences are paired over users, with 95 % intervals."""
    here = interval(row.ndcg_U, seed=seed)
    full = compare(row.ndcg_U, base_U, seed=seed)
    ahead = None if row is best else compare(best.ndcg_U, row.ndcg_U, seed=seed)
    return {
        "budget": f"{row.share:.0%}",
        "search": row.search,
        "bytes": row.table_bytes,
        "seconds": row.seconds,
        "NDCG@10": f"{here.mean:.4f}",
        "95 %": f"{here.low:.4f} to {here.high:.4f}",
        "of whole rows": None if full.relative is None else f"{1 + full.relative:.1%}",
        "knapsack ahead by": None if ahead is None else f"{ahead.difference:+.4f}",
        "95 % of it": None if ahead is None else f"{ahead.low:+.4f} to {ahead.high:+.4f}",
        "p": None if ahead is None else f"{ahead.p:.3f}",
        "expected": f"{row.expected:.4f}",
        "tail": f"{row.tail:.1%}",
        "widths": row.widths,
    }


def _shares(text: str) -> tuple[float, ...]:
    try:
        shares = tuple(float(word) for word in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list such as 0.5,0.25") from None
    if not all(0 < share <= 1 for share in shares):
        raise argparse.ArgumentTypeError(f"{text!r} holds something other than shares of 1")
    return shares

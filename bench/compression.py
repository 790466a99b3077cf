"""Checkpoints compressed in different ways, beside each other on one file's test users.

Each was trained on its own, and its epoch was picked on validation; the test part is opened once,
here. A checkpoint is read back through every check, and its full network answers everybody with
the code that serves.
"""

# U cases, B batch

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bench.machine import busy, machine
from bench.report import Report, Value, median
from models.checkpoint.contents import Checkpoint
from models.checkpoint.ranker import ranker_of
from models.checkpoint.read import read_checkpoint
from models.checkpoint.store import current
from models.ranker import Ranker, stack
from training.data.split import EvalCases
from training.elastic.from_data import split_of
from training.evaluate.bootstrap import compare, interval
from training.evaluate.groups import groups
from training.evaluate.metrics import ndcg_at
from training.evaluate.quality import lengths_read, ranks_by_submodel, totals
from training.fit.cases import sample_cases
from training.progress import Silent

_TOP = 10
_QUICK_CASES = 100
_TIMED_CASES = 160
_BATCHES = (1, 16)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add(
        "roots",
        nargs="+",
        metavar="NAME=ROOT",
        help="a name for the table and a model root; the others are compared with the first",
    )
    add("--data", type=Path, required=True, metavar="FILE", help="the interactions all learned")
    add("--most", type=int, metavar="N", help="rank N test users only (default: all)")
    add("--seed", type=int, default=0, help="of the bootstrap (default: 0)")
    add("--quick", action="store_true", help="few users: shows that it runs")
    add("--json", action="store_true", help="print the result as JSON")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One checkpoint's full network on the test users. Bytes and FLOPs: see `run`'s report."""

    name: str
    ndcg_U: NDArray[np.float64]
    table_bytes: int
    body_bytes: int
    flops: float
    cpu_ms: tuple[float, ...]
    """CPU ms a user at each of `_BATCHES`."""
    training: str | None
    """What it took, as the manifest tells."""

    @property
    def num_bytes(self) -> int:
        """Bytes of the weights that this network is served with."""
        return self.table_bytes + self.body_bytes

    @property
    def costs(self) -> tuple[float, ...]:
        """What is better when lower, the loss of NDCG@10 included."""
        return (-float(self.ndcg_U.mean()), self.num_bytes, self.flops, *self.cpu_ms)


def dominated_by(one: Candidate, others: Sequence[Candidate]) -> list[str]:
    """Return the names of those no worse in anything and better in something, by their means."""
    return [
        other.name
        for other in others
        if other.costs != one.costs
        and all(a <= b for a, b in zip(other.costs, one.costs, strict=True))
    ]


def run(args: argparse.Namespace) -> None:
    """Rank the test users with each checkpoint and print; ValueError when they do not compare."""
    named = [_read(pair) for pair in args.roots]
    torch.set_num_threads(1)
    warning = busy()
    first = named[0][1]
    for name, checkpoint in named[1:]:
        if checkpoint.catalog.external_ids != first.catalog.external_ids:
            raise ValueError(f"{name} has another catalog than {named[0][0]}; train on one file")
    parts = split_of(first, args.data, columns=None, strict=False, progress=Silent())
    test = parts.open_test()
    most = _QUICK_CASES if args.quick else args.most
    test = test if most is None else sample_cases(test, most, args.seed)
    rankers = [ranker_of(checkpoint) for _, checkpoint in named]
    times = _alternating(rankers, test)
    found = [
        _candidate(name, checkpoint, ranker, cpu_ms, test)
        for (name, checkpoint), ranker, cpu_ms in zip(named, rankers, times, strict=True)
    ]
    Report(
        name="Compression",
        method=(
            f"{len(test):,} test users, opened once; every checkpoint's full network for all of "
            f"them. Differences to {found[0].name}, paired bootstrap, 95 %.",
            "Bytes: item table and extracted body, as resident. FLOPs a user: router left out. "
            f"CPU: median ms a user at batches of {_BATCHES[0]} and {_BATCHES[1]}, encoder and "
            "scoring, checkpoints alternating.",
            "Dominated by: no worse in NDCG@10, bytes, FLOPs and both CPU times.",
            *(("--quick: shows that it runs, no more.",) if args.quick else ()),
            *((f"{warning}.",) if warning else ()),
        ),
        machine=machine(),
        rows=[_told(one, found, args.seed) for one in found],
        findings=_by_popularity(found, test),
    ).show(as_json=args.json)


def _read(pair: str) -> tuple[str, Checkpoint]:
    name, _, root = pair.partition("=")
    if not name or not root:
        raise ValueError(f"{pair!r} is not of the form NAME=ROOT, such as compact=models-compact")
    version = current(Path(root))
    if version is None:
        raise ValueError(f"{root} has no CURRENT; train with canet train --out {root}")
    return name, read_checkpoint(Path(root) / version)


def _candidate(
    name: str, checkpoint: Checkpoint, ranker: Ranker, cpu_ms: tuple[float, ...], test: EvalCases
) -> Candidate:
    last = len(ranker.served) - 1
    exclude_seen = not checkpoint.manifest.repeats
    ranks_U1 = ranks_by_submodel(ranker, test, exclude_seen=exclude_seen, places=[last])
    cost_US, _ = totals(ranker, lengths_read(ranker, test.histories), routed=False)
    training = checkpoint.manifest.training
    seconds, epochs = training.get("seconds"), training.get("epochs")
    return Candidate(
        name=name,
        ndcg_U=ndcg_at(ranks_U1[:, 0], _TOP),
        table_bytes=ranker.table.num_bytes,
        body_bytes=ranker.body_bytes_of(last),
        flops=float(cost_US[:, last].mean()),
        cpu_ms=cpu_ms,
        training=None if seconds is None else f"{seconds:.0f} s, {epochs} epochs",
    )


@torch.inference_mode()
def _alternating(rankers: Sequence[Ranker], cases: EvalCases) -> list[tuple[float, ...]]:
    """Return each full network's median CPU ms a user at every batch size."""
    found: list[list[float]] = [[] for _ in rankers]
    for size in _BATCHES:
        spent: list[list[float]] = [[] for _ in rankers]
        for start in range(0, min(_TIMED_CASES, len(cases)), size):
            several = range(start, min(start + size, len(cases)))
            for ranker, times in zip(rankers, spent, strict=True):
                most = ranker.config.max_length
                histories = [cases.histories[case][-most:].tolist() for case in several]
                longest = ranker.bucket(max(map(len, histories)))
                ids_BL, lengths_B = stack(histories, longest)
                place = len(ranker.served) - 1
                began = time.thread_time()
                query_BE = ranker.encode(place, ids_BL, lengths_B)
                ranker.score(place, query_BE, ids_BL, lengths_B)
                times.append(1e3 * (time.thread_time() - began) / len(several))
        for told, times in zip(found, spent, strict=True):
            told.append(median(times))
    return [tuple(told) for told in found]


def _told(one: Candidate, found: Sequence[Candidate], seed: int) -> dict[str, Value]:
    here = interval(one.ndcg_U, seed=seed)
    row: dict[str, Value] = {
        "checkpoint": one.name,
        "NDCG@10": f"{here.mean:.4f}",
        "95 %": f"{here.low:.4f} to {here.high:.4f}",
    }
    first = found[0]
    versus = None if one is first else compare(one.ndcg_U, first.ndcg_U, seed=seed)
    relative = None
    if versus is not None and versus.relative is not None:
        relative = (
            f"{versus.relative:+.1%} ({versus.relative_low:+.1%} to {versus.relative_high:+.1%})"
        )
    row[f"against {first.name}"] = relative
    row["table bytes"] = one.table_bytes
    row["body bytes"] = one.body_bytes
    row["of the bytes"] = f"{one.num_bytes / first.num_bytes:.0%}"
    row["MFLOPs"] = one.flops / 1e6
    for size, cpu_ms in zip(_BATCHES, one.cpu_ms, strict=True):
        row[f"CPU ms, batch {size}"] = cpu_ms
    row["training"] = one.training
    row["dominated by"] = ", ".join(dominated_by(one, found)) or None
    return row


def _by_popularity(found: Sequence[Candidate], test: EvalCases) -> tuple[str, ...]:
    """Return a sentence a checkpoint: what it changes in every tenth of the targets."""
    first = found[0]
    told = []
    # Complexity alone would read item vectors; here all are alike.
    alike_VE = np.ones((int(max(test.targets.max(), test.histories.items.max())) + 1, 1), "f4")
    for one in found[1:]:
        tenths = [
            "-" if group.relative is None else f"{group.relative:+.1%}"
            for group in groups(test, alike_VE, full_U=first.ndcg_U, routed_U=one.ndcg_U)
            if group.by == "popularity"
        ]
        told.append(
            f"{one.name} against {first.name} by tenths of the targets, most popular first: "
            + ", ".join(tenths)
            + "."
        )
    if told:
        full = [
            f"{group.full:.4f}"
            for group in groups(test, alike_VE, full_U=first.ndcg_U, routed_U=first.ndcg_U)
            if group.by == "popularity"
        ]
        told.insert(0, f"NDCG@10 of {first.name} in those tenths: {', '.join(full)}.")
    return tuple(told)

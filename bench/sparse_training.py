"""Accuracy against density on the supernet: exploring, by chance, cut once, or small at once.

Every training has the same epochs and the same data; the epoch is picked on validation and the
test part is read once per training. What is served is measured as served: packed and extracted.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.interactions import interactions_of
from bench.machine import busy, machine
from bench.options import above, count
from bench.report import Report, Value
from models.config import Submodel
from models.density import density
from models.ranker import Ranker
from training.data.profile import profile
from training.data.reading import make_split
from training.data.split import EvalCases, Split
from training.evaluate.quality import cpu_milliseconds, ndcg_by_submodel
from training.fit.closing import weigh_memory
from training.fit.loop import fit
from training.fit.presets import Preset, choose_preset
from training.fit.sandwich import SandwichStep
from training.progress import Silent
from training.sparse.config import SparseConfig
from training.sparse.pack import packed
from training.sparse.smaller import smaller

# How a training is called: (granularity, method).
KINDS = {
    "element": ("element", "dynamic"),
    "unit": ("unit", "dynamic"),
    "static": ("element", "static"),
    "static unit": ("unit", "static"),
    "one-shot": ("element", "one-shot"),
    "one-shot unit": ("unit", "one-shot"),
    "dense-small": ("element", "dense-small"),
}


@dataclass(frozen=True, slots=True)
class _Task:
    """What all trainings share."""

    split: Split
    preset: Preset
    exclude_seen: bool
    test: EvalCases


class _Timed(SandwichStep):
    """Counts the CPU seconds of steps, and the bytes that training holds between them."""

    spent = 0.0
    taken = 0
    held = 0

    def __call__(self, *arguments: Any) -> list[float]:
        began = time.process_time()
        losses = super().__call__(*arguments)
        _Timed.spent += time.process_time() - began
        _Timed.taken += 1
        if _Timed.taken == 1:
            state = sum(tensor.nbytes for tensor in self.state().values())
            _Timed.held = state + sum(tensor.nbytes for tensor in self.parameters.values())
        return losses


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this subcommand's options."""
    parser.add_argument(
        "--data", type=Path, metavar="FILE", help="interactions, as for canet train"
    )
    parser.add_argument("--density", type=above(0), nargs="+", default=[0.5, 0.3, 0.1])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--epochs", type=count, default=15)
    parser.add_argument("--interval", type=count, default=100, help="steps between exchanges (100)")
    parser.add_argument("--start-rate", type=above(0), default=0.3)
    alone = parser.add_mutually_exclusive_group()
    alone.add_argument(
        "--plain", action="store_true", help="train the full network alone, no smaller submodels"
    )
    alone.add_argument(
        "--network", metavar="NAME", help="train one network alone, such as d2-w64-e64"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="made-up data, one epoch")
    parser.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> None:
    """Train, compare and print; ValueError when an option makes no sense."""
    if args.data is None and not args.quick:
        raise ValueError("--data is needed; --quick makes data up")
    if max(args.density) >= 1:
        raise ValueError(f"--density {max(args.density):g} leaves everything; give less than 1")
    torch.set_num_threads(1)
    task = _task(args)
    rows = [_row("dense", None, task)]
    for share in args.density:
        for kind in args.kinds:
            granularity, method = KINDS[kind]
            sparse = SparseConfig(
                density=share,
                granularity=granularity,
                method=method,
                interval=args.interval,
                start_rate=args.start_rate,
            )
            rows.append(_row(f"{kind} {share:g}", sparse, task))
    warning = busy()
    grid, train = task.preset.supernet, task.preset.train
    Report(
        name="sparse-training",
        method=(
            f"Preset {task.preset.name}: depths {grid.depths}, widths {grid.widths}, embedding "
            f"widths {grid.emb_widths}, {grid.num_items:,} items, {train.epochs} epochs, no limit "
            f"of time, seed {args.seed}; leave-one-out, {len(task.test):,} test cases.",
            "CPU ms of one answer of the full network at batch 1, routing and HTTP aside. Training "
            "MB: weights, their averages, gradients, moments and masks, without activations.",
            *(("--quick: too small to mean anything.",) if args.quick else ()),
            *((f"{warning}.",) if warning else ()),
        ),
        machine=machine(),
        rows=rows,
    ).show(as_json=args.json)


def _task(args: argparse.Namespace) -> _Task:
    interactions = interactions_of(args.data)
    split = make_split(interactions, "leave-one-out")
    found = profile(interactions)
    preset = choose_preset(found, num_items=len(split.catalog), seed=args.seed)
    grid = preset.supernet
    if args.plain or args.quick:
        last = {axis: getattr(grid, axis)[-1:] for axis in ("depths", "widths", "emb_widths")}
        grid = replace(grid, **last)
    if args.network is not None:
        one = Submodel.parse(args.network)
        grid = replace(grid, depths=(one.depth,), widths=(one.width,), emb_widths=(one.emb_width,))
    epochs = 1 if args.quick else args.epochs
    train = replace(preset.train, epochs=epochs, patience=epochs, max_seconds=None, threads=1)
    return _Task(
        split=split,
        preset=replace(preset, supernet=grid, train=train),
        exclude_seen=found.exclude_seen,
        test=split.open_test(),
    )


def _row(name: str, sparse: SparseConfig | None, task: _Task) -> dict[str, Value]:
    grid = task.preset.supernet
    if sparse is not None and sparse.method == "dense-small":
        grid = smaller(grid, sparse.density)
    config = replace(task.preset.train, sparse=sparse)
    _Timed.spent, _Timed.taken, _Timed.held = 0.0, 0, 0
    fitted = fit(
        task.split,
        grid,
        config,
        exclude_seen=task.exclude_seen,
        progress=Silent(),
        make_step=_Timed,
    )
    weigh_memory(fitted, config, task.split.validation, task.exclude_seen, Silent())
    supernet = fitted.supernet
    left = density(supernet)
    if sparse is not None and sparse.masks and sparse.granularity == "unit":
        supernet = packed(supernet, sparse.row_blocks)
    ends = tuple(dict.fromkeys((grid.largest, grid.smallest)))
    quality = ndcg_by_submodel(
        supernet, fitted.memory, ends, task.test, exclude_seen=task.exclude_seen
    )
    ranker = Ranker(supernet, fitted.memory, None, [grid.largest])
    spent, _ = cpu_milliseconds(ranker, task.test, most=100)
    return {
        "training": name,
        "weights left": f"{left:.1%}",
        "validation NDCG@10": f"{fitted.epochs[fitted.best_epoch].ndcg_largest:.4f}",
        "test NDCG@10": f"{quality[0]:.4f}",
        "smallest submodel": f"{quality[-1]:.4f}",
        "best epoch": fitted.best_epoch + 1,
        "ms a step": 1000 * _Timed.spent / max(1, _Timed.taken),
        "training MB": _Timed.held / 1e6,
        "table KB": ranker.table.num_bytes / 1e3,
        "body KB": ranker.body_bytes / 1e3,
        "MFLOPs": ranker.full_cost(grid.max_length).total / 1e6,
        "CPU ms": float(np.asarray(spent)[0]),
    }

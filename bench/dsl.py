"""Dynamic sparse learning in its own setting: is half of LightGCN enough, and what does it save?

Five trainings of as many epochs each: dense, sparse by exploring, sparse by chance, dense first
and then cut, and a dense network of as many weights. The epoch is picked on validation, the test
part is read once per training, and every item that a user has not met is ranked.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from bench.interactions import interactions_of
from bench.lightgcn.data import GraphData, graph_data
from bench.lightgcn.train import Outcome, Plan, train
from bench.machine import machine
from bench.options import above, count
from bench.report import Report, Value, spread
from training.sparse.config import SparseConfig

METHODS = ("dense", "dynamic", "static", "one-shot", "dense-small")
# Exchanges in one training, about: the paper's 2,000 to 20,000 steps of a million.
_EXCHANGES = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this subcommand's options."""
    parser.add_argument(
        "--data", type=Path, metavar="FILE", help="interactions, as for canet train"
    )
    parser.add_argument("--density", type=above(0), default=0.5, help="share that stays (0.5)")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--width", type=count, default=64, help="of the dense network (64)")
    parser.add_argument("--layers", type=count, default=3)
    parser.add_argument("--epochs", type=count, default=60)
    parser.add_argument("--batch", type=count, default=8192, help="pairs a step (8192)")
    parser.add_argument("--rate", type=above(0), default=1e-2, help="learning rate (0.01)")
    parser.add_argument("--start-rate", type=above(0), default=0.5, help="exchanged at first (0.5)")
    parser.add_argument("--seeds", type=count, default=1, help="trainings of each (1)")
    parser.add_argument("--quick", action="store_true", help="made-up data and two epochs")
    parser.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> None:
    """Train, compare and print; ValueError when an option makes no sense."""
    if args.data is None and not args.quick:
        raise ValueError("--data is needed; --quick makes data up")
    if args.density >= 1:
        raise ValueError(f"--density {args.density:g} leaves everything; give less than 1")
    torch.set_num_threads(1)
    interactions = interactions_of(args.data)
    epochs = 2 if args.quick else args.epochs
    outcomes: dict[str, list[Outcome]] = {method: [] for method in args.methods}
    for seed in range(args.seeds):
        data = graph_data(interactions, seed=seed)
        for method, found in outcomes.items():
            found.append(train(data, _plan(args, method, data, epochs, seed)))
    data = graph_data(interactions, seed=0)
    reference = outcomes.get("dense")
    Report(
        name="dsl",
        method=(
            f"LightGCN, {args.layers} layers of {args.width}, BPR, Adam {args.rate:g} falling "
            f"along a cosine to 1e-4, {args.batch:,} pairs a step, {epochs} epochs; "
            f"{args.seeds} seed(s), each its own split and start.",
            f"{data.num_users:,} users, {data.num_items:,} items, {len(data.training_N2):,} pairs "
            "to train on; per user a random tenth of the items for validation, a tenth for test.",
            "MACs are those of ideal kernels that skip every zero (bench/lightgcn/macs.py); "
            "nothing here runs faster for it.",
            *(("--quick: too small to mean anything.",) if args.quick else ()),
        ),
        machine=machine(),
        rows=[_row(method, found, reference) for method, found in outcomes.items()],
    ).show(as_json=args.json)


def _plan(args: argparse.Namespace, method: str, data: GraphData, epochs: int, seed: int) -> Plan:
    plan = Plan(
        width=args.width,
        layers=args.layers,
        epochs=epochs,
        batch=args.batch,
        rate=args.rate,
        seed=seed,
        evaluate_every=1 if args.quick else 3,
    )
    if method == "dense":
        return plan
    if method == "dense-small":
        return replace(plan, width=max(1, round(args.density * args.width)))
    steps = epochs * -(-len(data.training_N2) // args.batch)
    interval = max(1, steps // _EXCHANGES)
    return replace(
        plan,
        sparse=SparseConfig(
            density=args.density,
            method=method,
            interval=interval,
            window=interval,
            start_rate=args.start_rate,
        ),
    )


def _row(
    method: str, found: Sequence[Outcome], reference: Sequence[Outcome] | None
) -> dict[str, Value]:
    def mean(values: Sequence[float]) -> float:
        return float(np.mean(values))

    def against(name: str) -> str:
        if reference is None:
            return "-"
        own, dense = (mean([getattr(one, name) for one in some]) for some in (found, reference))
        return f"{own / dense - 1:+.1%}"

    recalls, gains = [one.test.recall for one in found], [one.test.ndcg for one in found]
    return {
        "method": method,
        "density": f"{mean([one.density for one in found]):.1%}",
        "Recall@20": f"{mean(recalls):.4f}",
        "NDCG@20": f"{mean(gains):.4f}",
        "NDCG@20 seeds": spread(gains),
        "validation NDCG@20": f"{mean([one.validation.ndcg for one in found]):.4f}",
        "best epoch": ", ".join(str(one.best_epoch) for one in found),
        "training MACs": f"{mean([one.training_macs for one in found]):.3g}",
        "against dense": against("training_macs"),
        "inference MACs": f"{mean([one.inference_macs for one in found]):.3g}",
        "inference against dense": against("inference_macs"),
        "seconds": mean([one.seconds for one in found]),
    }

"""Does the router find the users that gain from more network? A test whose answer is known.

Made-up users of equal lengths, three hidden tiers: complex ones follow several threads at once, so
that what comes next depends on items several steps back. Some users are kept out of training
altogether. The tiers are read for the score alone: the chance that the expected compute of a
complex user lies above that of another user (AUC), from 0.5 for a router that knows nothing.
"""

# U cases, S submodels

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bench.machine import machine
from bench.options import above, count
from bench.report import Report, Value
from models.checkpoint.contents import Checkpoint
from models.checkpoint.ranker import ranker_of
from models.checkpoint.read import read_checkpoint
from models.checkpoint.store import current_or_none
from models.ranker import Ranker
from models.router import choose_places
from training.data.sequences import gather
from training.data.split import EvalCases
from training.datasets.synthetic import TIERS, Synthetic, SyntheticConfig, generate, write
from training.evaluate.metrics import ndcg_at
from training.evaluate.quality import lengths_read, ranks_by_submodel, router_features
from training.pipeline import train
from training.plan import TrainRequest
from training.progress import Silent
from training.publish.frontier import Held

# Complex users mostly follow their thread, so that there is something to be found further back.
FOLLOW_RATES = (0.72, 0.55, 0.90)
_QUICK = {"users": 300, "new_users": 100, "items": 400, "epochs": 1}
_RESAMPLES = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Users of one kind: expected compute of each (U,), NDCG@10 (U, S) and as routed (U,).

    `expected` by what the router may choose from: smallest and full alone, or all that is served.
    """

    tiers: NDArray[np.int64]
    expected: dict[str, NDArray[np.float64]]
    ndcg_US: NDArray[np.float64]
    routed: NDArray[np.float64]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this subcommand's options."""
    add = parser.add_argument
    add("--users", type=count, default=8_000, help="users to train on (%(default)s)")
    add("--new-users", type=count, default=1_500, help="users kept out (%(default)s)")
    add("--items", type=count, default=1_000, help="(%(default)s)")
    add("--topics", type=count, default=10, help="(%(default)s)")
    add("--epochs", type=count, default=14, help="most epochs (%(default)s)")
    add("--max-minutes", type=above(0), default=30.0, help="most minutes of fitting (%(default)s)")
    add("--seed", type=int, default=0, help="(%(default)s)")
    add(
        "--work",
        type=Path,
        metavar="DIR",
        help="keep data and checkpoint here; what it holds already is measured, not trained anew",
    )
    add("--quick", action="store_true", help="sizes too small to mean anything")
    add("--json", action="store_true")


def run(args: argparse.Namespace) -> None:
    """Train where need be, measure and print; ValueError when an option makes no sense."""
    if args.quick:
        vars(args).update(_QUICK)
    data = generate(
        SyntheticConfig(
            users=args.users + args.new_users,
            items=args.items,
            topics=args.topics,
            seed=args.seed,
            follow_rates=FOLLOW_RATES,
            equal_lengths=True,
        )
    )
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary) if args.work is None else args.work
        checkpoint = _checkpoint(args, data, work)
    ranker = ranker_of(checkpoint)
    rows: list[dict[str, Value]] = []
    findings = []
    users_U = np.arange(len(data.tiers))
    for kind, chosen_U in (
        ("kept out of training", users_U >= args.users),
        ("trained on", users_U < args.users),
    ):
        judged = judge(checkpoint, ranker, _cases(checkpoint, data, chosen_U), data.tiers)
        for choice, expected in judged.expected.items():
            score, low, high = with_interval(expected, judged.tiers == len(TIERS) - 1)
            told = f"AUC {score:.3f} (95 % {low:.3f} to {high:.3f})"
            findings.append(f"Users {kind}, routed over {choice}: {told}.")
        for tier, name in enumerate(TIERS):
            here = judged.tiers == tier
            rows.append(
                {
                    "users": kind,
                    "tier": name,
                    "cases": int(here.sum()),
                    **{
                        f"compute over {choice}": f"{expected[here].mean():.3f}"
                        for choice, expected in judged.expected.items()
                    },
                    **{
                        f"NDCG@10 {one.name}": f"{judged.ndcg_US[here, place].mean():.4f}"
                        for place, one in enumerate(ranker.served)
                    },
                    "routed": f"{judged.routed[here].mean():.4f}",
                }
            )
    Report(
        name="synthetic-routing",
        method=(
            f"{args.users:,} made-up users of equal lengths and {args.new_users:,} more that "
            f"training never meets, {args.items:,} items, {args.topics} topics, seed {args.seed}; "
            f"an action follows the last one with chance {FOLLOW_RATES[0]:g} (simple users) or "
            f"{FOLLOW_RATES[1]:g} (medium), the last one of its thread with chance "
            f"{FOLLOW_RATES[2]:g} (complex). Each user's last item is to be told from all before "
            "it. Compute: FLOPs of the router's choices over the full network's, mean over prices "
            "whose costs spread evenly; routed: at the checkpoint's price.",
            *(("--quick: sizes too small to mean anything.",) if args.quick else ()),
        ),
        machine=machine(),
        rows=rows,
        findings=findings,
    ).show(as_json=args.json)


@torch.inference_mode()
def judge(
    checkpoint: Checkpoint, ranker: Ranker, cases: EvalCases, tiers_U: NDArray[np.int64]
) -> Judged:
    """Return what the checkpoint, as served, spends on the cases and reaches on them."""
    assert ranker.router is not None
    quality_US = ranker.router(router_features(ranker, cases.histories)).numpy()
    cost_US = ranker.cost_ratios(lengths_read(ranker, cases.histories))
    ranks_US = ranks_by_submodel(ranker, cases, exclude_seen=not checkpoint.manifest.repeats)
    ndcg_US = ndcg_at(ranks_US, 10)
    places_U = choose_places(quality_US, cost_US, checkpoint.manifest.router.price)
    last = len(ranker.served) - 1
    choices = {"smallest and full": [0, last], "all": list(range(last + 1))}
    return Judged(
        tiers=tiers_U[cases.users],
        expected={
            choice: expected_compute(quality_US[:, places], cost_US[:, places])
            for choice, places in choices.items()
        },
        ndcg_US=ndcg_US,
        routed=ndcg_US[np.arange(len(cases)), places_U],
    )


def expected_compute(
    predicted_US: NDArray[np.float32], ratios_US: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the mean cost (U,) of what is chosen, over prices from 0 to all that are the cheapest.

    The prices are spread as those of a checkpoint's price curve are.
    """
    quality_US, cost_US = predicted_US.astype(np.float64), ratios_US.astype(np.float64)
    held = Held(
        quality_US=quality_US,
        ndcg_US=quality_US,
        cost_US=cost_US,
        full_U=cost_US[:, -1],
        unit=1.0,
    )
    spent = [
        np.take_along_axis(cost_US, choose_places(quality_US, cost_US, price)[:, None], 1)[:, 0]
        for price in held.prices()
    ]
    expected_U: NDArray[np.float64] = np.mean(spent, axis=0)
    return expected_U


def auc(score_U: NDArray[np.float64], positive_U: NDArray[np.bool_]) -> float:
    """Return the chance that a positive's score is above a negative's, ties counting half.

    NaN without positives or without negatives.
    """
    _, place_U, counts = np.unique(score_U, return_inverse=True, return_counts=True)
    rank_U = (np.cumsum(counts) - (counts - 1) / 2)[place_U]
    ups = int(positive_U.sum())
    downs = len(positive_U) - ups
    if not ups or not downs:
        return float("nan")
    return float((rank_U[positive_U].sum() - ups * (ups + 1) / 2) / (ups * downs))


def with_interval(
    score_U: NDArray[np.float64], positive_U: NDArray[np.bool_], seed: int = 0
) -> tuple[float, float, float]:
    """Return the AUC and its 95 % bootstrap interval over users."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(_RESAMPLES):
        drawn = generator.integers(len(score_U), size=len(score_U))
        found.append(auc(score_U[drawn], positive_U[drawn]))
    low, high = np.nanquantile(found, (0.025, 0.975))
    return auc(score_U, positive_U), float(low), float(high)


def _checkpoint(args: argparse.Namespace, data: Synthetic, work: Path) -> Checkpoint:
    """Return the checkpoint in `work`, trained on the first users if there is none yet."""
    root = work / "checkpoints"
    version = current_or_none(root)
    if version is None:
        mine = data.users < args.users
        part = replace(
            data,
            users=data.users[mine],
            items=data.items[mine],
            seconds=data.seconds[mine],
            tiers=data.tiers[: args.users],
        )
        interactions, _ = write(part, work)
        request = TrainRequest(
            data=interactions,
            out=root,
            preset="long-history",
            depths=(1, 2),
            widths=(64,),
            emb_widths=(32,),
            max_length=32,
            epochs=args.epochs,
            max_seconds=60 * args.max_minutes,
            threads=1,
            seed=args.seed,
        )
        version = train(request, Silent()).version
    return read_checkpoint(root / version)


def _cases(checkpoint: Checkpoint, data: Synthetic, chosen_U: NDArray[np.bool_]) -> EvalCases:
    """Return the last item of each chosen user as a case, of items that the catalog knows."""
    ids = [f"i{item:06d}" for item in range(1, len(data.topics) + 1)]
    row_of = np.array([checkpoint.catalog.item_id(one) or 0 for one in ids], dtype=np.int64)
    known = row_of[data.items] > 0
    users, items = data.users[known], row_of[data.items[known]]
    bounds = np.searchsorted(users, np.arange(len(data.tiers) + 1))
    asked = np.flatnonzero(chosen_U & (np.diff(bounds) > 1))
    return EvalCases(
        histories=gather(items, bounds[asked], bounds[asked + 1] - 1),
        targets=items[bounds[asked + 1] - 1],
        users=asked,
    )

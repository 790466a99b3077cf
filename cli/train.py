"""`canet train`: from a file of interactions to a published checkpoint."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from cli.elastic_options import add_elastic_options, elastic_plan
from cli.errors import WRONG_ARGUMENTS, CommandError, explained
from cli.options import (
    add_backbone_options,
    add_data_options,
    add_grid_options,
    add_json_option,
    column_names,
)
from cli.progress import ConsoleProgress
from cli.refresh import add_refresh_options
from cli.refresh import run as run_refresh
from cli.signals import stop_on_signals
from cli.sparse import add_sparse_options, sparse_config
from cli.table_options import add_table_options, table_wish


def register(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "train",
        help="train a checkpoint and move CURRENT to it",
        description="Train a supernet and its router on a file of interactions, test once, and "
        "publish the checkpoint. Killed runs continue where they stopped when the same command "
        "is given again. --max-minutes, SIGTERM and Ctrl-C stop cleanly and publish the best so "
        "far; a second Ctrl-C ends at once.",
    )
    add_data_options(command, required=False)
    command.add_argument(
        "--out", type=Path, required=True, metavar="ROOT", help="model root to publish into"
    )
    command.add_argument(
        "--preset",
        choices=("small", "session-like", "long-history", "compact"),
        help="architecture and plan; compact is the one for the data with a quarter of its item "
        "table, heads and channels (default: chosen from the data and printed)",
    )
    command.add_argument(
        "--method",
        choices=("supernet", "canet"),
        default="supernet",
        help="how network and router are trained: one after the other, or jointly as CANet was "
        "published, for comparison; canet serves the whole grid at price 0 (default: %(default)s)",
    )
    command.add_argument(
        "--canet",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a hyper-parameter of --method canet, such as sequences_per_batch=128 or "
        "guide_weight=0.05; may be given several times (docs/evaluation.md)",
    )
    add_grid_options(command)
    add_table_options(command)
    add_elastic_options(command)
    add_backbone_options(command)
    command.add_argument("--epochs", type=int, metavar="N", help="most epochs")
    command.add_argument(
        "--max-minutes", type=float, metavar="N", help="stop cleanly with the best so far"
    )
    command.add_argument(
        "--budget",
        type=float,
        metavar="SHARE",
        help="share of the full network's FLOPs the default price must meet, such as 0.35 "
        "(default: the cheapest price whose validation NDCG@10 is that of the full network within "
        "0.5 %% or one standard error)",
    )
    seen = command.add_mutually_exclusive_group()
    seen.add_argument(
        "--exclude-seen",
        action="store_true",
        default=None,
        dest="exclude_seen",
        help="leave seen items out of rankings (default: when the data has no repeats)",
    )
    seen.add_argument("--keep-seen", action="store_false", dest="exclude_seen")
    command.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    command.add_argument("--threads", type=int, metavar="N", help="torch threads (default: cores)")
    command.add_argument("--fresh", action="store_true", help="do not continue a killed run")
    add_json_option(command)
    add_sparse_options(command)
    add_refresh_options(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train, or refresh, and print what came of it."""
    from training.evaluate.report import render_table
    from training.pipeline import train
    from training.plan import TrainPlan, TrainRequest

    how: dict[str, Any] = {
        "out": arguments.out,
        "items": arguments.items,
        "split": arguments.split,
        "method": arguments.method,
        "canet": tuple(arguments.canet),
        "preset": arguments.preset,
        "depths": arguments.depths,
        "widths": arguments.widths,
        "emb_widths": arguments.emb_widths,
        "max_length": arguments.max_length,
        "table": table_wish(arguments),
        "head": arguments.head,
        "elastic": elastic_plan(arguments),
        "backbone": arguments.backbone,
        "layer_sharing": arguments.layer_sharing,
        "seed": arguments.seed,
        "epochs": arguments.epochs,
        "max_seconds": 60 * arguments.max_minutes if arguments.max_minutes is not None else None,
        "budget": arguments.budget,
        "exclude_seen": arguments.exclude_seen,
        "threads": arguments.threads,
        "sparse": sparse_config(arguments),
        "resume": not arguments.fresh,
    }
    if arguments.refresh and arguments.method != "supernet":
        raise CommandError(
            f"--refresh starts from the live model, which --method {arguments.method} does not; "
            "leave one of them out",
            WRONG_ARGUMENTS,
        )
    if arguments.refresh:
        # A refresh that was killed drains again and finds other data: nothing to resume.
        return run_refresh(arguments, TrainPlan(**{**how, "resume": False}))
    if arguments.data is None:
        raise CommandError("--data is needed, unless --refresh trains on events", WRONG_ARGUMENTS)
    with explained(), stop_on_signals() as should_stop:
        result = train(
            TrainRequest(
                **how,
                data=arguments.data,
                columns=column_names(arguments),
                strict=arguments.strict,
            ),
            ConsoleProgress(),
            should_stop,
        )
    if arguments.json:
        print(
            json.dumps(
                {
                    "version": result.version,
                    "path": str(result.path),
                    "preset": result.preset,
                    "price": result.price,
                    "epochs": result.epochs,
                    "best_epoch": result.best_epoch,
                    "stopped": result.stopped,
                    "seconds": result.seconds,
                    **result.evaluation.to_json(),
                }
            )
        )
        return 0
    print(render_table(result.evaluation.rows))
    print(
        f"published {result.path} ({result.epochs} epochs, best {result.best_epoch}, stopped by "
        f"{result.stopped}, {result.seconds / 60:.1f} minutes)"
    )
    return 0

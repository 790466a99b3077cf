"""`canet evaluate`: what a published checkpoint is worth on a file of interactions."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from cli.errors import WRONG_CHECKPOINT, CommandError, explained
from cli.options import add_data_options, add_json_option, column_names
from cli.progress import ConsoleProgress


def register(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "evaluate",
        help="evaluate a checkpoint on a file of interactions",
        description="Rank the whole catalog for every test case with every served submodel and "
        "compare the routed network with full, random, static and simple baselines. The test "
        "part is the newest of the file: on the training file it is what training tested on.",
    )
    command.add_argument("root", type=Path, metavar="ROOT", help="the model root")
    add_data_options(command)
    command.add_argument("--version", metavar="VERSION", help="default: what CURRENT names")
    command.add_argument("--price", type=float, help="default: the checkpoint's")
    command.add_argument(
        "--budget", type=float, metavar="SHARE", help="pick the price from the stored curve"
    )
    command.add_argument("--seed", type=int, default=0, help="of the bootstrap; %(default)s")
    add_json_option(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate and print the table."""
    from models.checkpoint.read import read_checkpoint
    from models.checkpoint.store import current
    from training.evaluate.from_checkpoint import evaluate_checkpoint
    from training.evaluate.report import render_table

    with explained():
        version = arguments.version or current(arguments.root)
        if version is None:
            raise CommandError(
                f"{arguments.root} has no CURRENT; name a --version", WRONG_CHECKPOINT
            )
        checkpoint = read_checkpoint(arguments.root / version)
        evaluation = evaluate_checkpoint(
            checkpoint,
            arguments.data,
            columns=column_names(arguments),
            strict=arguments.strict,
            split=arguments.split,
            price=arguments.price,
            budget=arguments.budget,
            seed=arguments.seed,
            progress=ConsoleProgress(),
        )
    if arguments.json:
        print(json.dumps({"version": version, **evaluation.to_json()}))
    else:
        print(render_table(evaluation.rows))
    return 0

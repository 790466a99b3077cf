"""`canet evaluate`: what a published checkpoint is worth on a file of interactions."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cli.errors import WRONG_ARGUMENTS, WRONG_CHECKPOINT, CommandError, explained
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
    command.add_argument(
        "--prices",
        type=float,
        nargs="+",
        metavar="PRICE",
        help="measure routing at these prices too; default: about six over the stored curve",
    )
    command.add_argument("--seed", type=int, default=0, help="of the bootstrap; %(default)s")
    command.add_argument(
        "--html", type=Path, metavar="FILE", help="also write a report with plots, one HTML file"
    )
    command.add_argument(
        "--beside",
        action="append",
        default=[],
        metavar="NAME=ROOT",
        help="add a row of another checkpoint on the same users: plain=ROOT, its full network, or "
        "canet=ROOT, its routed network at its own price; may be given several times",
    )
    add_json_option(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate and print the table."""
    from models.checkpoint.read import read_checkpoint
    from models.checkpoint.store import current
    from training.evaluate.beside import read_contenders
    from training.evaluate.from_checkpoint import evaluate_checkpoint
    from training.evaluate.report import render_table

    render_page = None
    if arguments.html is not None:
        render_page = _renderer()
        if not arguments.html.parent.is_dir():
            raise CommandError(
                f"{arguments.html.parent} is no directory; --html cannot write there",
                WRONG_ARGUMENTS,
            )
    with explained():
        version = arguments.version or current(arguments.root)
        if version is None:
            raise CommandError(
                f"{arguments.root} has no CURRENT; name a --version", WRONG_CHECKPOINT
            )
        try:
            beside = read_contenders(arguments.beside)
        except ValueError as error:
            raise CommandError(str(error), WRONG_ARGUMENTS) from error
        checkpoint = read_checkpoint(arguments.root / version)
        evaluation = evaluate_checkpoint(
            checkpoint,
            arguments.data,
            columns=column_names(arguments),
            strict=arguments.strict,
            split=arguments.split,
            price=arguments.price,
            budget=arguments.budget,
            prices=arguments.prices,
            seed=arguments.seed,
            progress=ConsoleProgress(),
            beside=beside,
        )
        if render_page is not None:
            page = render_page(
                evaluation,
                checkpoint.manifest.router.price_curve,
                version=version,
                data=arguments.data.name,
                split=arguments.split,
            )
            arguments.html.write_text(page, encoding="utf-8")
    if arguments.json:
        print(json.dumps({"version": version, **evaluation.to_json()}))
    else:
        print(render_table(evaluation.rows))
        if evaluation.oracle_bound is not None:
            bound = f"{evaluation.oracle_bound:.4f}"
            print(f"No routing of routed's cost has NDCG@10 above {bound} on these cases.")
        if evaluation.density < 1:
            print(f"{evaluation.density:.1%} of the weights are not zero.")
        if arguments.html is not None:
            print(f"Report: {arguments.html}")
    return 0


def _renderer() -> Callable[..., str]:
    """Return `render_page`; CommandError, before any work, when its libraries are missing."""
    try:
        from training.evaluate.html.page import render_page
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in {"matplotlib", "jinja2"}:
            raise
        raise CommandError(
            f"--html needs {error.name}, which is not installed; "
            "install it with: pip install 'canet-serve[report]'",
            WRONG_ARGUMENTS,
        ) from error
    return render_page

"""`canet evaluate`: what a published checkpoint is worth on a file of interactions."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.errors import WRONG_ARGUMENTS, WRONG_CHECKPOINT, CommandError, explained
from cli.options import add_data_options, add_json_option, column_names
from cli.progress import ConsoleProgress

if TYPE_CHECKING:
    from models.checkpoint.contents import Checkpoint


def register(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "evaluate",
        help="evaluate a checkpoint on a file of interactions",
        description="Rank the whole catalog for every test case with every served submodel and "
        "compare the routed network with full, random, static and simple baselines. The test "
        "part is the newest of the file: on the training file it is what training tested on. "
        "Several roots are read as trainings of one recipe, with other seeds say: their rows are "
        "means over the trainings, beside what each reached.",
    )
    command.add_argument("roots", type=Path, metavar="ROOT", nargs="+", help="a model root")
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
    command.add_argument(
        "--budgets",
        type=float,
        nargs="+",
        metavar="SHARE",
        help="one table per budget, with random, static and oracle of that cost; every root's "
        "price is read from its own stored curve (default with several roots: one table, each "
        "at its own price)",
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
    if len(arguments.roots) > 1 or arguments.budgets is not None:
        return _run_pooled(arguments)
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
        checkpoint = _checkpoint(arguments.roots[0], arguments.version)
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
            beside=_beside(arguments),
        )
        if render_page is not None:
            page = render_page(
                evaluation,
                checkpoint.manifest.router.price_curve,
                version=checkpoint.version,
                data=arguments.data.name,
                split=arguments.split,
            )
            arguments.html.write_text(page, encoding="utf-8")
    if arguments.json:
        print(json.dumps({"version": checkpoint.version, **evaluation.to_json()}))
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


def _run_pooled(arguments: argparse.Namespace) -> int:
    from training.evaluate.from_checkpoint import evaluate_trainings
    from training.evaluate.report import render_table

    for name in ("version", "price", "budget", "prices", "html"):
        if getattr(arguments, name) is not None:
            raise CommandError(
                f"--{name} does not go with several roots or --budgets; give --budgets",
                WRONG_ARGUMENTS,
            )
    with explained():
        checkpoints = [_checkpoint(root, None) for root in arguments.roots]
        cases, tables = evaluate_trainings(
            checkpoints,
            arguments.data,
            columns=column_names(arguments),
            strict=arguments.strict,
            split=arguments.split,
            budgets=arguments.budgets,
            seed=arguments.seed,
            progress=ConsoleProgress(),
            beside=_beside(arguments),
        )
    if arguments.json:
        found = {
            "versions": [checkpoint.version for checkpoint in checkpoints],
            "cases": cases,
            "tables": [table.to_json() for table in tables],
        }
        print(json.dumps(found))
        return 0
    for table in tables:
        if table.budget is not None:
            print(f"Budget {table.budget:g} of always-full's FLOPs:")
        print(render_table(table.rows))
    return 0


def _checkpoint(root: Path, version: str | None) -> Checkpoint:
    from models.checkpoint.read import read_checkpoint
    from models.checkpoint.store import current

    version = version or current(root)
    if version is None:
        raise CommandError(f"{root} has no CURRENT; name a --version", WRONG_CHECKPOINT)
    return read_checkpoint(root / version)


def _beside(arguments: argparse.Namespace) -> list[tuple[str, Checkpoint]]:
    from training.evaluate.beside import read_contenders

    try:
        return read_contenders(arguments.beside)
    except ValueError as error:
        raise CommandError(str(error), WRONG_ARGUMENTS) from error


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

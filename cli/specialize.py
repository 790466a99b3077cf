"""`canet specialize`: make a checkpoint of any memory budget from one with an elastic table."""

from __future__ import annotations

import argparse
import json
import time
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.errors import WRONG_ARGUMENTS, WRONG_CHECKPOINT, CommandError, explained
from cli.options import add_data_options, add_json_option, column_names
from cli.progress import ConsoleProgress
from cli.table_options import size

if TYPE_CHECKING:
    from models.checkpoint.contents import Checkpoint
    from training.elastic.specialize import Specialized

_SEARCHES = ("knapsack", "evolution", "random", "uniform", "popularity")


def register(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "specialize",
        help="make a checkpoint of any memory budget from an elastic one",
        description="Narrow the item table of a checkpoint that canet train --elastic made, until "
        "it takes at most so many bytes in a service, and publish the result: no training, and no "
        "data unless it is given. Groups of items keep the columns that were seen to matter.",
    )
    command.add_argument(
        "checkpoint",
        type=Path,
        metavar="CHECKPOINT",
        help="a model root, whose CURRENT is taken, or the directory of one version",
    )
    command.add_argument(
        "--memory",
        type=size,
        required=True,
        metavar="SIZE",
        help="most bytes of item vectors, biases, their index and alignment, such as 2MiB",
    )
    command.add_argument(
        "--out", type=Path, required=True, metavar="ROOT", help="model root to publish into"
    )
    command.add_argument(
        "--search",
        choices=_SEARCHES,
        default="knapsack",
        help="how widths are chosen: the best by the measurements of training (%(default)s), by "
        "evolution on the users of --data, or, for comparison, at random, the same for all, in "
        "proportion to popularity",
    )
    command.add_argument("--seed", type=int, default=0, help="of the search (%(default)s)")
    add_data_options(command, required=False, training=False)
    add_json_option(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Specialise, publish, and print what came of it."""
    from models.checkpoint.write import write_checkpoint
    from training.elastic.from_data import validation_probe
    from training.elastic.specialize import elastic_of, specialize

    if arguments.search == "evolution" and arguments.data is None:
        raise CommandError(
            "--search evolution tries widths on validation users; give --data, or leave "
            "--search out",
            WRONG_ARGUMENTS,
        )
    began = time.monotonic()
    progress = ConsoleProgress()
    with explained():
        checkpoint = _read(arguments.checkpoint)
        try:
            elastic_of(checkpoint)
        except ValueError as error:
            raise CommandError(str(error), WRONG_CHECKPOINT) from error
        probe = None
        if arguments.data is not None:
            probe = validation_probe(
                checkpoint,
                arguments.data,
                columns=column_names(arguments),
                strict=arguments.strict,
                seed=arguments.seed,
                progress=progress,
            )
        found = specialize(
            checkpoint,
            budget=arguments.memory,
            search=arguments.search,
            probe=probe,
            seed=arguments.seed,
            progress=progress,
        )
        version = write_checkpoint(arguments.out, found.contents)
    seconds = time.monotonic() - began
    if arguments.json:
        entry = found.entry.model_dump(mode="json")
        print(json.dumps({"version": version, "seconds": round(seconds, 3), **entry}))
    else:
        _print(checkpoint, found, arguments.out / version, seconds)
    return 0


def _read(path: Path) -> Checkpoint:
    """Return the checkpoint of a root's CURRENT, or of a version's directory."""
    from models.checkpoint.manifest import is_version
    from models.checkpoint.read import read_checkpoint
    from models.checkpoint.store import current

    if is_version(path.name):
        return read_checkpoint(path)
    version = current(path)
    if version is None:
        raise CommandError(
            f"{path} has no CURRENT; give a model root, or the directory of a version",
            WRONG_CHECKPOINT,
        )
    return read_checkpoint(path / version)


def _print(checkpoint: Checkpoint, found: Specialized, path: Path, seconds: float) -> None:
    from models.table.layout import dense_layout
    from models.table.resident import resident_bytes

    entry, config = found.entry, checkpoint.config
    whole = resident_bytes(dense_layout(config.rows, config.emb_width), len(config.emb_widths))
    widths = ", ".join(f"{len(list(same))} x {width}" for width, same in groupby(entry.widths))
    elastic = checkpoint.manifest.elastic
    assert elastic is not None
    print(
        f"tables       {entry.table_bytes:,} bytes of {entry.budget_bytes:,} "
        f"({entry.table_bytes / whole:.1%} of {whole:,})"
    )
    print(f"widths       {widths} (item groups by falling popularity x columns)")
    print(
        f"NDCG@10      {elastic.uniform_ndcg_10[-1]:.4f} with whole rows, "
        f"{entry.expected_ndcg_10:.4f} expected (validation, {elastic.cases:,} cases of training)"
    )
    if entry.measured_ndcg_10 is not None:
        print(f"             {entry.measured_ndcg_10:.4f} measured (validation cases of --data)")
    memory = found.ranker.memory
    if memory is not None:
        print(f"besides      {memory.num_bytes:,} bytes of transition memory, as before")
    print(f"published    {path} ({seconds:.1f} s)")

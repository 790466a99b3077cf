"""Options of sparse training, and what they come to."""

from __future__ import annotations

import argparse
from typing import Any

from cli.errors import WRONG_ARGUMENTS, CommandError

_OPTIONS = {
    "sparse": "granularity",
    "sparse_method": "method",
    "sparse_interval": "interval",
    "sparse_start_rate": "start_rate",
}


def add_sparse_options(command: argparse.ArgumentParser) -> None:
    """Add --density and how it is kept."""
    group = command.add_argument_group(
        "sparse training",
        "train with a constant part of the weights; which part is learned (docs/compression.md)",
    )
    group.add_argument(
        "--density",
        type=float,
        metavar="SHARE",
        help="share of the weights that stay, such as 0.5 (default: all; with --refresh, as the "
        "live model was trained)",
    )
    group.add_argument(
        "--sparse",
        choices=("element", "unit"),
        help="what dies: single weights, which saves nothing when served, or blocks of the item "
        "table, attention heads and feed-forward channels, which are left out of what is served "
        "(default: element)",
    )
    group.add_argument(
        "--sparse-method",
        choices=("dynamic", "static", "one-shot", "dense-small"),
        help="explore while training; or, to compare with, keep a random choice, drop the "
        "smallest half-way, or train a smaller dense network (default: dynamic)",
    )
    group.add_argument(
        "--sparse-interval",
        type=int,
        metavar="STEPS",
        help="steps between exchanges (default: 200)",
    )
    group.add_argument(
        "--sparse-start-rate",
        type=float,
        metavar="SHARE",
        help="share of the living that is exchanged at first (default: 0.3)",
    )


def sparse_config(arguments: argparse.Namespace) -> Any:
    """Return the SparseConfig the options give, None without --density; CommandError if wrong."""
    from training.sparse.config import SparseConfig

    given = {
        field: value
        for option, field in _OPTIONS.items()
        if (value := getattr(arguments, option)) is not None
    }
    if arguments.density is None:
        if given:
            names = ", ".join(
                "--" + option.replace("_", "-")
                for option, field in _OPTIONS.items()
                if field in given
            )
            raise CommandError(
                f"{names} without --density: say which share of the weights stays", WRONG_ARGUMENTS
            )
        return None
    try:
        return SparseConfig(density=arguments.density, **given)
    except ValueError as error:
        raise CommandError(str(error), WRONG_ARGUMENTS) from error

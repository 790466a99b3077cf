"""Options for an item table that can be narrowed after training, and what they ask for."""

from __future__ import annotations

import argparse
from typing import Any

from cli.errors import WRONG_ARGUMENTS, CommandError
from cli.options import ascending


def add_elastic_options(command: argparse.ArgumentParser) -> None:
    """Add --elastic and what it may be told: groups, widths, blocks, diversity."""
    group = command.add_argument_group(
        "elastic item table",
        "Train once for every memory budget: groups of items of like popularity learn to do with "
        "the leading columns of their rows (RULE). `canet specialize` then makes a checkpoint of "
        "any size, without training. Training takes about 1.7 times as long.",
    )
    group.add_argument(
        "--elastic", action="store_true", help="train the item table so that it can be narrowed"
    )
    group.add_argument(
        "--elastic-groups",
        type=int,
        metavar="N",
        help="item groups that are narrowed together (default: 20)",
    )
    group.add_argument(
        "--elastic-widths",
        type=ascending,
        metavar="N,N",
        help="widths that a group may have, ascending; the whole embedding is always one of them "
        "(default: 2,4,8,12,16,24,32,48 and so on; with blocks 1, 2, 3, 4, 6, 8, 12 of them)",
    )
    group.add_argument(
        "--elastic-blocks",
        type=int,
        metavar="N",
        help="cut the columns into so many blocks of equal width, and let a group keep any of them "
        "in place of leading columns; 16 in the paper (default: leading columns)",
    )
    group.add_argument(
        "--elastic-diversity",
        type=float,
        metavar="X",
        help="weight of the term that keeps those blocks distinct, 0 switches it off (default: 1)",
    )


def elastic_plan(arguments: argparse.Namespace) -> Any:
    """Return the ElasticPlan that the options give, None without --elastic.

    CommandError when an option is given that only --elastic has a use for.
    """
    from training.elastic.config import ElasticPlan

    given = {
        name: value
        for name in ("groups", "widths", "blocks", "diversity")
        if (value := getattr(arguments, f"elastic_{name}")) is not None
    }
    if arguments.elastic:
        if "diversity" in given and "blocks" not in given:
            raise CommandError(
                "--elastic-diversity has no effect without --elastic-blocks; add it",
                WRONG_ARGUMENTS,
            )
        try:
            return ElasticPlan(**given)
        except ValueError as error:
            raise CommandError(str(error), WRONG_ARGUMENTS) from error
    if given:
        raise CommandError(
            f"--elastic-{next(iter(given))} has no effect without --elastic; add it",
            WRONG_ARGUMENTS,
        )
    return None

"""Options for an item table that can be narrowed after training, and what they ask for."""

from __future__ import annotations

import argparse
from typing import Any

from cli.errors import WRONG_ARGUMENTS, CommandError
from cli.options import ascending


def add_elastic_options(command: argparse.ArgumentParser) -> None:
    """Add --elastic, --elastic-groups and --elastic-widths."""
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
        "(default: 2,4,8,12,16,24,32,48 and so on)",
    )


def elastic_plan(arguments: argparse.Namespace) -> Any:
    """Return the ElasticPlan that the options give, None without --elastic.

    CommandError when an option is given that only --elastic has a use for.
    """
    from training.elastic.config import ElasticPlan

    given = {
        name: value
        for name in ("groups", "widths")
        if (value := getattr(arguments, f"elastic_{name}")) is not None
    }
    if arguments.elastic:
        return ElasticPlan(**given)
    if given:
        raise CommandError(
            f"--elastic-{next(iter(given))} has no effect without --elastic; add it",
            WRONG_ARGUMENTS,
        )
    return None

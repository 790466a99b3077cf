"""Options for an item table in blocks, and what they ask for."""

from __future__ import annotations

import argparse
import re
from typing import Any

from cli.errors import WRONG_ARGUMENTS, CommandError
from cli.options import whole_numbers

_UNITS = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(KiB|MiB|GiB|)")


def add_table_options(command: argparse.ArgumentParser) -> None:
    """Add --table-cuts with --table-ranks, --table-bytes with --table-factor and --head."""
    from models.config import HEADS
    from training.fit.table_plan import FACTOR, FALLING

    group = command.add_argument_group(
        "item table",
        "Store less for rare items: blocks of items by falling popularity, each of a rank of its "
        "own with a learned projection (CpRec). Without these the table is whole; a refresh keeps "
        "the live model's.",
    )
    group.add_argument(
        "--table-cuts",
        type=whole_numbers,
        metavar="N,N",
        help="how many of the most popular items the first block ends with, the second, ...; "
        "such as 500,2000",
    )
    group.add_argument(
        "--table-ranks",
        type=whole_numbers,
        metavar="R,R,R",
        help="numbers an item has in each block, one more than cuts, never rising; such as 64,16,4",
    )
    group.add_argument(
        "--table-bytes",
        type=size,
        metavar="SIZE",
        help="most bytes of rows and projections, such as 2MiB; cuts and ranks are then chosen "
        "from the data and printed",
    )
    group.add_argument(
        "--table-factor",
        type=int,
        metavar="N",
        help="with --table-bytes: by how much the rank falls from each of three blocks to the "
        f"next; 1: one rank for every item (default: {FACTOR}; with --head two_level {FALLING}, "
        "the paper's)",
    )
    group.add_argument(
        "--head",
        choices=HEADS,
        help="how scores become probabilities: one softmax over a whole table (full) or over one "
        "in blocks (flat_lowrank), or a softmax over the first block and the others as a whole, "
        "then one within a block (two_level, trained without negatives and without the transition "
        "memory, which joins afterwards) (default: full or flat_lowrank; with --refresh the live "
        "model's)",
    )


def table_wish(arguments: argparse.Namespace) -> Any:
    """Return the TableWish that the options give, None without any.

    CommandError when they contradict each other or themselves.
    """
    from training.fit.table_plan import TableWish

    given = (arguments.table_cuts, arguments.table_ranks, arguments.table_bytes)
    factor = arguments.table_factor
    if factor is not None and arguments.table_bytes is None:
        raise CommandError(
            "--table-factor without --table-bytes: say how many bytes the blocks may take",
            WRONG_ARGUMENTS,
        )
    if all(value is None for value in given):
        return None
    cuts, ranks, num_bytes = given
    if cuts is None and ranks is not None:
        cuts = ()  # one block
    try:
        return TableWish(cuts=cuts, ranks=ranks, num_bytes=num_bytes, factor=factor)
    except ValueError as error:
        raise CommandError(str(error), WRONG_ARGUMENTS) from error


def size(text: str) -> int:
    """Return the bytes that `text` names: a number, or one with KiB, MiB or GiB."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no size; give bytes, or a number with KiB, MiB or GiB, such as 2MiB"
        )
    return int(float(match[1]) * _UNITS[match[2]])

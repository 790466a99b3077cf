"""Options that several commands share, said once."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_data_options(
    command: argparse.ArgumentParser, *, required: bool = True, training: bool = True
) -> None:
    """Add --data and how to read it; with `training` also --items and --split."""
    command.add_argument(
        "--data",
        type=Path,
        required=required,
        metavar="FILE",
        help="interactions: CSV, TSV ('::' too), RecBole .inter, Parquet, or a directory of "
        "Parquet parts",
    )
    if training:
        command.add_argument(
            "--items",
            type=Path,
            metavar="FILE",
            help="item attributes (item_id, title, genres, ...)",
        )
    command.add_argument("--user-column", metavar="NAME", help="default: found by common names")
    command.add_argument("--item-column", metavar="NAME", help="default: found by common names")
    command.add_argument("--time-column", metavar="NAME", help="default: found by common names")
    command.add_argument("--strict", action="store_true", help="refuse the file when a row is bad")
    if training:
        command.add_argument(
            "--split",
            choices=("leave-one-out", "temporal"),
            default="leave-one-out",
            help="how test and validation are set apart (default: %(default)s)",
        )


def add_grid_options(command: argparse.ArgumentParser) -> None:
    """Add the axes of the supernet's grid, which replace the preset's."""
    for name, what in (
        ("depths", "numbers of layers"),
        ("widths", "hidden widths, divisible by 4"),
        ("emb-widths", "widths of the item table"),
    ):
        command.add_argument(
            f"--{name}",
            type=ascending,
            metavar="N,N",
            help=f"{what} of the grid, ascending (default: the preset's)",
        )
    command.add_argument(
        "--max-length", type=int, metavar="N", help="newest items that the network reads"
    )


def add_backbone_options(command: argparse.ArgumentParser) -> None:
    """Add what stands between the tables, and which of its layers share weights."""
    from models.config import BACKBONES
    from models.layer_plan import SHARING

    command.add_argument(
        "--backbone",
        choices=BACKBONES,
        help="Transformer, or NextItNet's dilated causal convolutions, whose depths count residual "
        "blocks of two (default: transformer; with --refresh the live model's)",
    )
    command.add_argument(
        "--layer-sharing",
        choices=SHARING,
        help="layers that share one kernel, a block being two layers: the two of a block "
        "(adjacent_layer), block with next block (adjacent_block), all blocks (cross_block), all "
        "layers (cross_layer); fewer bytes, the same FLOPs (default: none; with --refresh the "
        "live model's)",
    )


def whole_numbers(text: str) -> tuple[int, ...]:
    """Argument type: whole numbers, commas between."""
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of whole numbers such as 32,64"
        ) from None


def ascending(text: str) -> tuple[int, ...]:
    """Argument type: ascending whole numbers of at least 1, commas between."""
    values = whole_numbers(text)
    if list(values) != sorted(set(values)) or values[0] < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be ascending, distinct and positive")
    return values


def add_json_option(command: argparse.ArgumentParser) -> None:
    """Add --json: the result as one JSON document on standard output."""
    command.add_argument("--json", action="store_true", help="print the result as JSON")


def column_names(arguments: argparse.Namespace) -> Any:
    """Return the ColumnNames that the options give."""
    from training.data.columns import ColumnNames

    return ColumnNames(
        user=arguments.user_column, item=arguments.item_column, timestamp=arguments.time_column
    )

"""Options that several subcommands share, said once and checked once."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field

from service.settings import PREFIX, Settings

# What --quick measures: enough to see that everything runs, nothing to quote.
_QUICK_ITEMS, _QUICK_USERS, _QUICK_SECONDS = 300, 40, 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What every measurement is told: the model's shape, the users, the rounds."""

    items: int
    depth: int
    width: int
    emb_width: int
    length: int
    users: int
    rounds: int
    seconds: float
    connections: int
    encoder_share: float
    json: bool
    quick: bool
    settings: dict[str, str] = field(default_factory=dict)


def above(least: float) -> Callable[[str], float]:
    """Return an argument type: a number above `least`; 1e6 is one, too."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if not least < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not a number above {least:g}")
        return value

    return read


def count(text: str) -> int:
    """Argument type: a whole number of at least 1; 1e6 is one, too."""
    value = above(0)(text)
    if value != int(value):
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return int(value)


def counts(text: str) -> tuple[int, ...]:
    """Argument type: whole numbers with commas between."""
    return tuple(count(word) for word in text.split(","))


def share(text: str) -> float:
    """Argument type: a share above 0, at most 1."""
    value = above(0)(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text} is not a share: give a number up to 1")
    return value


def shares(text: str) -> tuple[float, ...]:
    """Argument type: shares with commas between."""
    return tuple(share(word) for word in text.split(","))


def setting(text: str) -> tuple[str, str]:
    """Argument type: CANET_NAME=VALUE of a setting that the service has."""
    name, equals, value = text.partition("=")
    known = name.startswith(PREFIX) and name.removeprefix(PREFIX).lower() in Settings.model_fields
    if not equals or not known:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not of the form CANET_NAME=VALUE with a name of docs/settings.md"
        )
    return name, value


def add_common(
    parser: argparse.ArgumentParser,
    *,
    items: int = 10_000,
    sizes: str | None = None,
    several_shares: str | None = None,
) -> None:
    """Add the options that `common` reads.

    With `sizes`, --items takes several, that by default, and so does --encoder-share with
    `several_shares`.
    """
    add = parser.add_argument
    if sizes is None:
        add("--items", type=count, default=items, help="catalog size (default: %(default)s)")
    else:
        text = "catalog sizes, commas between (default: %(default)s)"
        add("--items", type=counts, default=sizes, help=text)
    add("--depth", type=count, default=4, help="layers of the full network (%(default)s)")
    add("--width", type=count, default=128, help="its hidden width (default: %(default)s)")
    add("--emb-width", type=count, default=64, help="its table width (default: %(default)s)")
    add("--length", type=count, default=50, help="items of a history (default: %(default)s)")
    add("--users", type=count, default=5000, help="users that ask in turn (%(default)s)")
    add("--rounds", type=count, default=5, help="alternating rounds (default: %(default)s)")
    add("--seconds", type=above(0), default=4.0, help="of one measurement (%(default)s)")
    add("--connections", type=count, default=16, help="of a closed loop (default: %(default)s)")
    add(
        "--encoder-share",
        type=share if several_shares is None else shares,
        default=0.12 if several_shares is None else several_shares,
        help="routed encoder FLOPs over the full network's; sets the price (%(default)s)",
    )
    add(
        "--set",
        type=setting,
        action="append",
        default=[],
        metavar="CANET_NAME=VALUE",
        help="a setting of the service measured; may be given again",
    )
    add("--json", action="store_true", help="print the result as JSON")
    add("--quick", action="store_true", help="tiny and short: shows that it runs, no more")


def sizes_of(args: argparse.Namespace) -> tuple[int, ...]:
    """Return the catalog sizes asked for; one small one with --quick."""
    sizes: tuple[int, ...] = args.items
    return (_QUICK_ITEMS,) if args.quick else sizes


def shares_of(args: argparse.Namespace) -> tuple[float, ...]:
    """Return the shares asked for, one or more."""
    asked: float | tuple[float, ...] = args.encoder_share
    return asked if isinstance(asked, tuple) else (asked,)


def common(args: argparse.Namespace, *, items: int | None = None) -> Options:
    """Return the options of `add_common`; with --quick everything is small.

    `items` is the catalog size where --items takes several; of several shares it is the first.
    """
    quick = args.quick
    wanted = args.items if items is None else items
    return Options(
        items=min(wanted, _QUICK_ITEMS) if quick else wanted,
        depth=min(args.depth, 2) if quick else args.depth,
        width=16 if quick else args.width,
        emb_width=8 if quick else args.emb_width,
        length=min(args.length, 10) if quick else args.length,
        users=min(args.users, _QUICK_USERS) if quick else args.users,
        rounds=1 if quick else args.rounds,
        seconds=_QUICK_SECONDS if quick else args.seconds,
        connections=min(args.connections, 4) if quick else args.connections,
        encoder_share=shares_of(args)[0],
        json=args.json,
        quick=quick,
        settings=dict(args.set),
    )

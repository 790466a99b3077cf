"""`canet plan`: how many cores and how much memory a load needs."""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.errors import WRONG_ARGUMENTS, CommandError
from cli.options import add_json_option
from cli.table_options import add_table_options, table_wish

if TYPE_CHECKING:  # torch comes with it, and `canet --help` should not wait for torch
    from models.capacity import Coefficients, Deployment, Plan

_MIB = 1024 * 1024


def register(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "plan",
        help="size a deployment",
        description="Print the cores, replicas and memory that a load needs, from a cost model "
        "fitted to measurements (docs/performance.md), with the model's error on points it was "
        "not fitted to. A replica is one process on one core. Redis, load balancers and spare "
        "replicas come on top.",
    )
    add = command.add_argument
    add("--catalog", type=_whole, required=True, metavar="ITEMS", help="items; 1e6 is one million")
    add("--rps", type=_positive, required=True, help="requests per second at the busiest time")
    add("--p99", type=_positive, required=True, metavar="MS", help="objective, milliseconds")
    add("--length", type=_whole, default=50, help="items of a history (default: %(default)s)")
    add(
        "--budget",
        type=_positive,
        help="mean FLOPs of a routed answer over the full network's, up to 1; 1 is always-full "
        "(default: 0.35, or the least possible where that is more)",
    )
    add("--depth", type=_whole, default=4, help="layers of the full network (%(default)s)")
    add(
        "--width", type=_whole, default=128, help="its hidden width, a multiple of 16 (%(default)s)"
    )
    add("--emb-width", type=_whole, default=64, help="width of the item table (%(default)s)")
    add("--density", type=_positive, help="refused below 1: known only once it is trained")
    add_table_options(command)
    add(
        "--coefficients",
        type=Path,
        metavar="FILE",
        help="of `python -m bench fit-plan --out FILE` on the machine you deploy on (default: "
        "those that come with the package)",
    )
    add(
        "--calibrate",
        action="store_true",
        help="scale the coefficients to this machine by a probe of a few seconds",
    )
    add_json_option(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the plan; 2 when budget or objective are out of reach."""
    from models.capacity import plan, read_coefficients

    try:
        deployment = _deployment(arguments)
        coefficients = read_coefficients(arguments.coefficients)
        if arguments.calibrate:
            from models.capacity_probe import run_probe

            coefficients = coefficients.scaled(run_probe(), f"this machine ({platform.machine()})")
        found = plan(deployment, coefficients, rps=arguments.rps, p99=arguments.p99 / 1000)
    except (ValueError, OSError) as error:
        raise CommandError(str(error), WRONG_ARGUMENTS) from error
    if arguments.json:
        print(json.dumps(_to_json(deployment, found, coefficients), indent=2))
    else:
        _print(arguments, deployment, found, coefficients)
    return 0


def _deployment(arguments: argparse.Namespace) -> Deployment:
    """Return what is asked for; ValueError for what no plan can be made of."""
    import numpy as np

    from models.capacity import Deployment
    from training.fit.table_plan import with_table

    if arguments.width % 16 or arguments.emb_width % 2:
        raise ValueError(
            f"width {arguments.width} must be a multiple of 16, emb-width "
            f"{arguments.emb_width} of 2"
        )
    if arguments.head == "two_level":
        raise ValueError(
            "what two levels cost was not measured, so there is no plan for them; leave --head out "
            "for one softmax over the same blocks, and add to it"
        )
    if arguments.density is not None and arguments.density < 1:
        raise ValueError(
            f"what density {arguments.density:g} leaves is known once it is trained: single "
            "weights save nothing, and units what `canet checkpoints show` tells; give its table's "
            "bytes as --table-bytes"
        )
    wish = table_wish(arguments)
    deployment = Deployment(
        items=arguments.catalog,
        length=arguments.length,
        depth=arguments.depth,
        width=arguments.width,
        emb_width=arguments.emb_width,
        budget=arguments.budget,
        table_bytes=None if wish is None else wish.num_bytes,
    )
    if wish is None or wish.num_bytes is not None:
        return deployment
    no_counts = np.zeros(0, dtype=np.int64)  # cuts are given, none are chosen
    table = with_table(deployment.config, wish, no_counts).table
    return dataclasses.replace(deployment, table=table)


def _print(
    arguments: argparse.Namespace, deployment: Deployment, found: Plan, coefficients: Coefficients
) -> None:
    parts = ", ".join(f"{name} {1e3 * value:.2f}" for name, value in found.seconds.items())
    memory = found.memory_per_replica / _MIB
    print(f"catalog      {deployment.items:,} items, histories of {deployment.length}")
    print(
        f"network      {deployment.depth} layers of width {deployment.width}, tables of "
        f"{deployment.emb_width}; {found.budget:.0%} of its FLOPs on average"
    )
    print(f"item table   {deployment.stored_bytes / _MIB:,.1f} MiB")
    print(f"load         {arguments.rps:,.0f} requests/s, p99 <= {arguments.p99:g} ms")
    print(f"a request    {1e3 * found.cpu_seconds:.2f} ms of a core ({parts})")
    print(
        f"a core       {found.rate_per_core:,.0f} requests/s, {found.utilisation:.0%} busy: p99 "
        "leaves no more"
    )
    print(f"replicas     {found.replicas:,}, one core each: {found.replicas:,} cores")
    print(f"memory       {memory:,.0f} MiB each, {found.replicas * memory / 1024:,.1f} GiB in all")
    print(
        f"error        CPU on {coefficients.held_out} held-out points: median "
        f"{coefficients.held_out_median:.0%}, worst {coefficients.held_out_worst:.0%}; rate at a "
        f"p99: {_rate_error(coefficients)}"
    )
    print(f"fitted on    {coefficients.machine}; {coefficients.remark}")
    print("not counted  Redis, load balancers, replicas to spare")


def _rate_error(coefficients: Coefficients) -> str:
    if coefficients.rate_median is None or coefficients.rate_worst is None:
        return "not measured"
    return f"median {coefficients.rate_median:.0%}, worst {coefficients.rate_worst:.0%}"


def _to_json(deployment: Deployment, found: Plan, coefficients: Coefficients) -> dict[str, Any]:
    return {
        "cpu_seconds": found.cpu_seconds,
        "table_bytes": deployment.stored_bytes,
        "cpu_seconds_by_part": dict(found.seconds),
        "budget": found.budget,
        "utilisation": found.utilisation,
        "requests_per_second_per_core": found.rate_per_core,
        "replicas": found.replicas,
        "cores": found.replicas,
        "memory_bytes_per_replica": round(found.memory_per_replica),
        "memory_bytes": round(found.memory_per_replica * found.replicas),
        "coefficients": dataclasses.asdict(coefficients),
    }


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def _whole(text: str) -> int:
    value = _positive(text)
    if value != int(value):
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return int(value)

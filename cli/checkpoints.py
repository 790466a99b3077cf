"""`canet checkpoints`: list, show and roll back published versions."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from cli.errors import WRONG_CHECKPOINT, CommandError, explained
from cli.options import add_json_option


def register(commands: Any) -> None:
    """Add the command and its three actions to the parser."""
    command = commands.add_parser(
        "checkpoints",
        help="list, show and roll back versions",
        description="Look at a model root and move CURRENT back. A service on the same root "
        "follows CURRENT by itself.",
    )
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text, run in (
        ("list", "list the versions, oldest first", _list),
        ("show", "verify one version and show what it holds", _show),
        ("rollback", "move CURRENT to the version before, or to VERSION", _rollback),
    ):
        action = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        action.add_argument("root", type=Path, metavar="ROOT", help="the model root")
        if name == "show":
            action.add_argument("version", nargs="?", help="default: the one CURRENT names")
        if name == "rollback":
            action.add_argument("version", nargs="?", help="default: the one served before")
        add_json_option(action)
        action.set_defaults(run=run)


def _list(arguments: argparse.Namespace) -> int:
    from models.checkpoint.store import current, list_versions, rollback_target

    with explained():
        versions = list_versions(arguments.root)
        now = current(arguments.root)
        before = rollback_target(arguments.root)
    rows = [{"version": v, "current": v == now, "rollback": v == before} for v in versions]
    if arguments.json:
        print(json.dumps(rows, indent=2))
    elif not rows:
        print(f"no versions in {arguments.root}")
    for row in rows if not arguments.json else []:
        mark = " <- CURRENT" if row["current"] else " (rollback target)" if row["rollback"] else ""
        print(f"{row['version']}{mark}")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from models.checkpoint.read import read_checkpoint
    from models.checkpoint.store import current

    with explained():
        version = arguments.version or current(arguments.root)
        if version is None:
            raise CommandError(f"{arguments.root} has no CURRENT; name a version", WRONG_CHECKPOINT)
        checkpoint = read_checkpoint(arguments.root / version)
    manifest = checkpoint.manifest
    if arguments.json:
        print(manifest.model_dump_json(indent=2))
        return 0
    config = checkpoint.config
    print(f"version      {manifest.version} (verified)")
    print(f"created      {manifest.created_at}, parent {manifest.parent or 'none'}")
    print(f"catalog      {config.num_items:,} items, histories of up to {config.max_length}")
    print(f"price        {manifest.router.price:g}")
    print("submodels    FLOPs at full length, share of the full network")
    for entry in manifest.submodels:
        print(f"  {entry.name:<14} {entry.flops:>14,}  {entry.flops_ratio:7.1%}")
    for name, value in sorted(manifest.metrics.items()):
        print(f"{name:<28} {value:.4f}")
    return 0


def _rollback(arguments: argparse.Namespace) -> int:
    from models.checkpoint.store import current, rollback

    with explained():
        before = current(arguments.root)
        now = rollback(arguments.root, arguments.version)
    if arguments.json:
        print(json.dumps({"before": before, "current": now}))
    else:
        print(f"CURRENT: {before} -> {now}")
    return 0

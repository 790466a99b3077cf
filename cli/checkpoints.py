"""`canet checkpoints`: list, show, verify, pin and roll back published versions."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from cli.errors import WRONG_CHECKPOINT, CommandError, explained
from cli.options import add_json_option


def register(commands: Any) -> None:
    """Add the command and its actions to the parser."""
    command = commands.add_parser(
        "checkpoints",
        help="list, show, verify, pin and roll back versions",
        description="Look at a model root and move CURRENT. A service on the same root follows "
        "CURRENT by itself.",
    )
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text, run, version in (
        ("list", "list the versions, oldest first", _list, None),
        (
            "show",
            "verify one version and show what it holds",
            _show,
            "default: the one CURRENT names",
        ),
        (
            "verify",
            "do what a service does before it serves a version: check it and repeat its golden "
            "answers",
            _verify,
            "default: every version",
        ),
        (
            "pin",
            "verify a version and make CURRENT name it; the next publication moves CURRENT on",
            _pin,
            "the version to serve",
        ),
        (
            "rollback",
            "move CURRENT to the newest sound version served before, or to VERSION; unsound ones "
            "are skipped and named",
            _rollback,
            "default: the one served before",
        ),
    ):
        action = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        action.add_argument("root", type=Path, metavar="ROOT", help="the model root")
        if version is not None:
            many = None if name == "pin" else "?"
            action.add_argument("version", nargs=many, metavar="VERSION", help=version)
        add_json_option(action)
        action.set_defaults(run=run)


def _list(arguments: argparse.Namespace) -> int:
    from models.checkpoint.store import current, list_versions, rollback_target

    root = _root(arguments)
    with explained():
        versions = list_versions(root)
        now = current(root)
        before = rollback_target(root)
    rows = [{"version": v, "current": v == now, "rollback": v == before} for v in versions]
    if arguments.json:
        print(json.dumps(rows, indent=2))
    elif not rows:
        print(f"no versions in {root}")
    for row in rows if not arguments.json else []:
        mark = " <- CURRENT" if row["current"] else " (rollback target)" if row["rollback"] else ""
        print(f"{row['version']}{mark}")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from models.checkpoint.read import read_checkpoint
    from models.checkpoint.store import current
    from models.table.layout import runs

    root = _root(arguments)
    with explained():
        version = arguments.version or current(root)
        if version is None:
            raise CommandError(f"{root} has no CURRENT; name a version", WRONG_CHECKPOINT)
        checkpoint = read_checkpoint(root / version)
    manifest = checkpoint.manifest
    if arguments.json:
        print(manifest.model_dump_json(indent=2))
        return 0
    config = checkpoint.config
    print(f"version      {manifest.version} (verified)")
    print(f"created      {manifest.created_at}, parent {manifest.parent or 'none'}")
    print(f"catalog      {config.num_items:,} items, histories of up to {config.max_length}")
    layout = config.layout
    blocks = ", ".join(
        f"{size:,} x {block.width}" for size, block in zip(layout.sizes, layout.blocks, strict=True)
    )
    print(f"table        {layout.num_bytes(config.emb_width):,} bytes, rows x numbers: {blocks}")
    for start, block in zip(layout.starts, layout.blocks, strict=True):
        if block.columns is not None:
            print(f"             rows from {start:,}: columns {runs(block.columns)}")
    print(f"head         {config.head}")
    if manifest.elastic is not None:
        groups, widths = len(manifest.elastic.stops), ", ".join(map(str, manifest.elastic.widths))
        cut, size = manifest.elastic.blocks, config.emb_width
        kept = "" if cut is None else f" of any {cut} blocks of {size // cut} columns"
        print(f"elastic      {groups} item groups, widths {widths}{kept}: canet specialize")
    if manifest.specialized is not None:
        done = manifest.specialized
        print(
            f"specialised  from {done.source} to {done.table_bytes:,} of {done.budget_bytes:,} "
            f"bytes by {done.search}"
        )
    print(f"backbone     {config.backbone}, layer sharing {config.layer_sharing}")
    print(f"price        {manifest.router.price:g}")
    print("submodels    FLOPs at full length, share of the full network, bytes of the body")
    for entry in manifest.submodels:
        body = "" if entry.body_bytes is None else f"  {entry.body_bytes:>12,}"
        print(f"  {entry.name:<14} {entry.flops:>14,}  {entry.flops_ratio:7.1%}{body}")
    for name, value in sorted(manifest.metrics.items()):
        print(f"{name:<28} {value:.4f}")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from models.checkpoint.errors import CheckpointError
    from models.checkpoint.store import list_versions
    from service.engine.torch_engine import load_engine
    from service.lifecycle.trial import TrialError, prove

    root = _root(arguments)
    with explained():
        versions = [arguments.version] if arguments.version else list_versions(root)
    if not versions:
        raise CommandError(f"no versions in {root}", WRONG_CHECKPOINT)
    findings: dict[str, CheckpointError | TrialError | None] = {}
    for version in versions:
        try:
            prove(load_engine(root / version, price=None, allowed=None), root / version)
            findings[version] = None
        except (CheckpointError, TrialError) as error:
            findings[version] = error
        if not arguments.json:
            finding = findings[version]
            told = "sound" if finding is None else f"REFUSED ({finding.reason}): {finding}"
            print(f"{version} {told}")
    if arguments.json:
        rows = [
            {
                "version": version,
                "sound": error is None,
                "reason": None if error is None else str(error.reason),
                "detail": None if error is None else str(error),
            }
            for version, error in findings.items()
        ]
        print(json.dumps(rows, indent=2))
    return 0 if not any(findings.values()) else WRONG_CHECKPOINT


def _pin(arguments: argparse.Namespace) -> int:
    from models.checkpoint.read import read_checkpoint
    from models.checkpoint.store import current_or_none, set_current

    root = _root(arguments)
    with explained():
        before = current_or_none(root)
        read_checkpoint(root / arguments.version)
        set_current(root, arguments.version)
    _tell_move(arguments, before, arguments.version, [])
    return 0


def _rollback(arguments: argparse.Namespace) -> int:
    from models.checkpoint.recovery import rollback_to_sound
    from models.checkpoint.store import current_or_none

    root = _root(arguments)
    with explained():
        before = current_or_none(root)
        done = rollback_to_sound(root, arguments.version)
    _tell_move(arguments, before, done.version, [(name, str(e)) for name, e in done.skipped])
    return 0


def _tell_move(
    arguments: argparse.Namespace, before: str | None, now: str, skipped: list[tuple[str, str]]
) -> None:
    if arguments.json:
        rows = [{"version": version, "detail": detail} for version, detail in skipped]
        print(json.dumps({"before": before, "current": now, "skipped": rows}))
        return
    for version, detail in skipped:
        print(f"skipped {version}: {detail}")
    print(f"CURRENT: {before or 'none'} -> {now}")


def _root(arguments: argparse.Namespace) -> Path:
    root: Path = arguments.root
    if not root.is_dir():
        raise CommandError(
            f"{root} is no directory; give the model root that canet train --out wrote",
            WRONG_CHECKPOINT,
        )
    return root

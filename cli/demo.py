"""`canet demo`: the main job in one go, on real data, ending in a running service."""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.errors import CommandError, explained
from cli.progress import ConsoleProgress

if TYPE_CHECKING:  # torch comes with it, and `canet --help` should not wait for torch
    from models.checkpoint.contents import Checkpoint

# Training stops here; with everything around it the first run stays under six minutes.
_TRAIN_SECONDS = 150.0
_USERS = 100


def register(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "demo",
        help="train, serve and try everything once",
        description="Get data (MovieLens 100K unless told otherwise), train a small supernet "
        "with its router, start the service with an embedded Redis-compatible server, send it "
        "requests, and print what was measured. The service runs on until Ctrl-C. A second start "
        "reuses data and checkpoint.",
    )
    command.add_argument("--data", type=Path, metavar="FILE", help="your own interactions")
    command.add_argument("--items", type=Path, metavar="FILE", help="their attributes")
    command.add_argument("--synthetic", action="store_true", help="made-up data; works offline")
    command.add_argument(
        "--exit", action="store_true", help="stop at the end; exit code 0 only if all held"
    )
    command.add_argument("--port", type=int, help="default: CANET_PORT, 8000")
    command.add_argument("--fresh", action="store_true", help="train again")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the demo; 0 when everything held (or the service was left running until Ctrl-C)."""
    if arguments.data is not None and arguments.synthetic:
        raise CommandError("give --data or --synthetic, not both", 2)
    from cli import demo_report
    from cli.demo_client import try_out
    from cli.demo_service import running_service
    from models.checkpoint.read import read_checkpoint
    from models.checkpoint.store import current

    began = time.monotonic()
    progress = ConsoleProgress()
    with explained():
        data, items = _data(arguments, progress)
        home = _home(data)
        root = home / "models"
        if arguments.fresh:
            shutil.rmtree(home, ignore_errors=True)
        checkpoint = _reusable(root, progress)
        if checkpoint is None:
            _train(data, items, root, progress)
            version = current(root)
            assert version is not None
            checkpoint = read_checkpoint(root / version)
    demo_report.print_accuracy(checkpoint)
    port = arguments.port if arguments.port is not None else _port()
    with explained(), running_service(root, home / "redis", port, progress) as service:
        findings = try_out(service.url, _histories(data, checkpoint), checkpoint, progress)
        demo_report.print_service(findings, service.url)
        held = demo_report.print_verdict(checkpoint, findings, time.monotonic() - began)
        if not arguments.exit:
            demo_report.print_next_steps(service.url, findings)
            service.wait()
    return 0 if held else 1


def _data(arguments: argparse.Namespace, progress: ConsoleProgress) -> tuple[Path, Path | None]:
    if arguments.data is not None:
        return arguments.data, arguments.items
    from training.datasets.demo import get_demo_data

    stages: set[str] = set()

    def report(stage: str, done: int, total: int) -> None:
        if stage not in stages:
            stages.add(stage)
            progress.log(f"{stage} ...")

    found = get_demo_data("synthetic" if arguments.synthetic else "movielens", None, report)
    progress.log(f"data: {found.source}")
    progress.log(found.notice)
    return found.interactions_path, found.items_path


def _reusable(root: Path, progress: ConsoleProgress) -> Checkpoint | None:
    """Return the checkpoint of an earlier run, None when there is none that can be read."""
    from models.checkpoint.errors import CheckpointError
    from models.checkpoint.read import read_checkpoint
    from models.checkpoint.store import current

    try:
        version = current(root)
        if version is None:
            return None
        checkpoint = read_checkpoint(root / version)
    except CheckpointError as error:
        progress.log(f"the checkpoint of an earlier run is of no use: {error}")
        return None
    progress.log(f"reusing the checkpoint of an earlier run ({root}); --fresh trains again")
    return checkpoint


def _home(data: Path) -> Path:
    """Return where this data's demo keeps its checkpoint and histories, outside the project.

    Another place for other data, another checkpoint format or another training plan.
    """
    from models.checkpoint.manifest import FORMAT_VERSION
    from training.datasets.fetch import cache_root
    from training.fit.presets import PRESETS

    stat = data.stat() if data.exists() else None
    facts = "|".join(
        str(fact)
        for fact in (
            data.resolve(),
            stat.st_size if stat else 0,
            stat.st_mtime_ns if stat else 0,
            FORMAT_VERSION,
            PRESETS,
        )
    )
    return cache_root(None) / "demo" / hashlib.sha256(facts.encode()).hexdigest()[:12]


def _train(data: Path, items: Path | None, root: Path, progress: ConsoleProgress) -> None:
    from training.pipeline import train
    from training.plan import TrainRequest

    train(TrainRequest(data=data, items=items, out=root, max_seconds=_TRAIN_SECONDS), progress)


def _histories(data: Path, checkpoint: Checkpoint) -> list[tuple[str, ...]]:
    """Return what up to 100 users did, spread over the file: the newest items of each."""
    from training.data.interactions import read_interactions

    interactions = read_interactions(data)
    offsets = interactions.offsets()
    users = range(0, interactions.num_users, max(1, interactions.num_users // _USERS))
    most = checkpoint.config.max_length
    return [
        tuple(interactions.item_ids[code] for code in interactions.item_codes[a:b][-most:])
        for a, b in ((int(offsets[user]), int(offsets[user + 1])) for user in users[:_USERS])
    ]


def _port() -> int:
    text = os.environ.get("CANET_PORT") or "8000"
    if not text.isdigit() or int(text) > 65535:
        raise CommandError(f"CANET_PORT is {text!r}; give a port number up to 65535", 2)
    return int(text)

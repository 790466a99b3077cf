"""`canet serve`: run the service on a directory of checkpoints."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from cli.errors import WRONG_ARGUMENTS, WRONG_CHECKPOINT, CommandError, explained


def register(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "serve",
        help="serve recommendations over HTTP",
        description="Serve the checkpoint that CURRENT names, follow it when it moves, and drain "
        "on SIGTERM. Everything else is set by CANET_* variables (docs/settings.md). Without "
        "CANET_REDIS_URL an embedded Redis-compatible server keeps the histories.",
    )
    command.add_argument(
        "--models", type=Path, metavar="ROOT", help="model root (default: CANET_MODEL_ROOT)"
    )
    command.add_argument("--host", help="address to listen on (default: CANET_HOST, 127.0.0.1)")
    command.add_argument("--port", type=int, help="port to listen on (default: CANET_PORT, 8000)")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal; 0 after a clean drain."""
    from service.serve import run as serve
    from service.settings import Settings, SettingsError

    environ = dict(os.environ)
    for name, value in (
        ("CANET_MODEL_ROOT", arguments.models),
        ("CANET_HOST", arguments.host),
        ("CANET_PORT", arguments.port),
    ):
        if value is not None:
            environ[name] = str(value)
    with explained():
        try:
            settings = Settings.from_env(environ)
            if not settings.model_root.is_dir():
                raise CommandError(
                    f"{settings.model_root} is no directory; train a checkpoint first: "
                    "canet train --data FILE --out ROOT",
                    WRONG_CHECKPOINT,
                )
            return serve(settings)
        except SettingsError as error:
            raise CommandError(str(error), WRONG_ARGUMENTS) from error

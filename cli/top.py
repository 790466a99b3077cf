"""`canet top`: the live numbers of a running service in a terminal."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from cli.errors import WRONG_ARGUMENTS, CommandError
from cli.top_reading import Reading


def register(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "top",
        help="show a running service's live numbers",
        description="Reads /metrics of one service again and again and shows rates, latencies, "
        "compute saved, the submodel mix and the models, until Ctrl-C.",
    )
    command.add_argument(
        "--url", default="http://127.0.0.1:8000", help="the service (default: %(default)s)"
    )
    command.add_argument(
        "--interval",
        type=float,
        default=2.0,
        metavar="SECONDS",
        help="time between looks (default: %(default)g)",
    )
    command.add_argument("--once", action="store_true", help="print one view and end")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Show the view until Ctrl-C, or once. CommandError when the service does not answer."""
    from rich.console import Console
    from rich.live import Live

    from cli.top_view import view

    if not 0 < arguments.interval <= 3600:
        message = f"--interval is {arguments.interval:g}; give seconds, at most 3600"
        raise CommandError(message, WRONG_ARGUMENTS)
    if urlsplit(arguments.url).scheme not in {"http", "https"}:
        message = f"--url is {arguments.url!r}; give http://HOST:PORT"
        raise CommandError(message, WRONG_ARGUMENTS)
    console = Console()
    looks = _looks(arguments.url, arguments.interval)
    before, now = next(looks), next(looks)
    if arguments.once:
        console.print(view(before, now, arguments.url))
        return 0
    try:
        with Live(view(before, now, arguments.url), console=console, screen=True) as live:
            for later in looks:
                before, now = now, later
                live.update(view(before, now, arguments.url), refresh=True)
    except KeyboardInterrupt:
        pass  # the way to leave
    return 0


def _looks(url: str, interval: float) -> Iterator[Reading]:
    import httpx

    with httpx.Client(base_url=url, timeout=10) as client:
        while True:
            try:
                answer = client.get("/metrics").raise_for_status()
                yield Reading.parse(answer.text, at=time.monotonic())
            except httpx.HTTPError as error:
                raise CommandError(f"{url}/metrics does not answer: {error}") from error
            except ValueError as error:
                raise CommandError(f"{url}/metrics holds no metrics: {error}") from error
            time.sleep(interval)

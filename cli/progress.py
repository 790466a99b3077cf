"""Progress of long work on a terminal; plain lines where there is none."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from training.progress import Advance

_QUIET_SECONDS = 10.0


class ConsoleProgress:
    """Draws a bar per tracked piece of work on standard error, and keeps the logged lines.

    Off a terminal a line every ten seconds takes the bar's place. Results go to standard output,
    so that `--json` stays clean.
    """

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)

    def log(self, message: str) -> None:
        """Print a line that stays."""
        self.console.print(message, markup=False)

    @contextmanager
    def track(self, description: str, total: int) -> Iterator[Advance]:
        """Show how much of `total` is done while the context lasts."""
        if self.console.is_terminal:
            with Progress(
                TextColumn("  {task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f}%"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            ) as progress:
                task = progress.add_task(description, total=total)
                yield lambda units: progress.advance(task, units)
            return
        yield self._plain(description, total)

    def _plain(self, description: str, total: int) -> Advance:
        done, shown = 0, time.monotonic()

        def advance(units: int) -> None:
            nonlocal done, shown
            done += units
            if time.monotonic() - shown >= _QUIET_SECONDS:
                shown = time.monotonic()
                share = 100 * done / max(1, total)
                print(f"  {description}: {share:.0f} %", file=sys.stderr, flush=True)

        return advance

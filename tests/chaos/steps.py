"""A process that dies right before or right after a step of its own, whichever is asked for."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_WAIT_SECONDS = 240.0


class Countdown:
    """Dies at step `last`; counts the steps otherwise."""

    def __init__(self, last: int) -> None:
        self.taken = 0
        self._last = last

    def step(self) -> None:
        self.taken += 1
        if self.taken == self._last:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner: Any, name: str) -> None:
        """Make every call of `owner.name` two steps: before and after."""
        real: Callable[..., Any] = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.step()
            found = real(*args, **kwargs)
            self.step()
            return found

        setattr(owner, name, wrapped)


def forked(task: Callable[[], None]) -> int:
    """Run the task in a child; return 0, 1 for an exception, or minus the signal.

    A child that hangs says where and ends with 1. RuntimeError where this process has other
    threads: a child inherits the locks they hold, and nobody who would let them go.
    """
    threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    if len(threads) > 1:
        raise RuntimeError(f"forking beside other threads: {', '.join(threads)}")
    child = os.fork()
    if child == 0:
        faulthandler.dump_traceback_later(_WAIT_SECONDS, exit=True)
        code = 1
        try:
            task()
            code = 0
        finally:
            if code:
                sys.excepthook(*sys.exc_info())
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)

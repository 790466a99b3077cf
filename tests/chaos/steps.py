"""A process that dies right before or right after a step of its own, whichever is asked for."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any


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
    """Run the task in a child; return 0, 1 for an exception, or minus the signal."""
    child = os.fork()
    if child == 0:
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

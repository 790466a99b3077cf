"""How a thread that loads a model behaves, so that those who are served do not feel it."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

# Of 19: on a core that both want, serving gets nine times as much. Still more would turn against
# it: who waits for the interpreter waits for whoever holds it to be given a core.
_NICENESS: Final = 10
# Usually 5 ms: a request that changes threads three times could wait three times as long.
_TURN_SECONDS: Final = 0.0005
_NEVER: Final = 1_000_000


class _Quiet:
    """What is different in this process while at least one model is loaded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loading = 0
        self._turn_seconds = 0.0
        self._thresholds = (0, 0, 0)

    def enter(self) -> None:
        with self._lock:
            if self._loading == 0:
                self._turn_seconds, self._thresholds = sys.getswitchinterval(), gc.get_threshold()
                sys.setswitchinterval(_TURN_SECONDS)
                gc.set_threshold(*self._thresholds[:2], _NEVER)
            self._loading += 1

    def leave(self) -> None:
        with self._lock:
            self._loading -= 1
            if self._loading == 0:
                sys.setswitchinterval(self._turn_seconds)
                gc.set_threshold(*self._thresholds)


_quiet = _Quiet()


def give_way() -> None:
    """Lower the priority of the calling thread for good, where threads have one of their own."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


@contextmanager
def quietly() -> Iterator[None]:
    """Meanwhile nobody waits long for the interpreter, in the whole process; blocks may overlap.

    Threads that compute in Python take turns of half a millisecond, and there is no full garbage
    collection: reading a catalog makes so many objects that there would be several, a tenth of a
    second each, with every other thread standing still.
    """
    _quiet.enter()
    try:
        yield
    finally:
        _quiet.leave()


def give_memory_back() -> None:
    """Return freed memory to the system, where the C library keeps it and can be told not to.

    What a model was read and built from is freed in pieces between others that stay; without this
    a service that was swapped a few times holds a model's worth of memory that nobody uses.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)

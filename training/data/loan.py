"""A Python stream lent to Arrow, which reads ahead in threads of its own, and taken back."""

from __future__ import annotations

import io
import threading
import time
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Self

import pyarrow as pa

# Longer than any read of one block; Arrow lets go at once where nothing is being read.
_PATIENCE_SECONDS = 30.0


class Loan:
    """Lends `stream` while its `with` lasts; afterwards no thread of Arrow reads it, or will.

    Neither the end of a table nor closing its reader ends a read that Arrow has begun ahead. A
    process that is taken down meanwhile aborts, or waits for ever: the thread that reads needs the
    interpreter to come back. What reads must be let go of before the `with` is left, which waits 30
    seconds at most for a read on its way; what was parsed out of the stream may stay.
    """

    def __init__(self, stream: io.RawIOBase) -> None:
        self._stream = stream
        self._over = threading.Event()
        # What Arrow holds of Python's, and needs the interpreter to let go of. No callbacks: they
        # would be code to run in Arrow's thread, just when nothing is to run there any more.
        self._held: list[weakref.ref[_Handle] | weakref.ref[_Block]] = []

    def file(self) -> pa.PythonFile:
        """Return the stream as Arrow takes it; called once."""
        handle = _Handle(self._read)
        self._held.append(weakref.ref(handle))
        return pa.PythonFile(handle, mode="r")

    @property
    def returned(self) -> bool:
        """Whether Arrow has let go of the stream and of all that it read."""
        return all(held() is None for held in self._held)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        end = time.monotonic() + _PATIENCE_SECONDS
        while not self.returned and time.monotonic() < end:
            time.sleep(0.001)

    def _read(self, size: int) -> _Block:
        # At its end as soon as the loan is over.
        block = _Block(b"" if self._over.is_set() else self._stream.read(size) or b"")
        self._held = [held for held in self._held if held() is not None]
        self._held.append(weakref.ref(block))
        return block


class _Block(bytearray):
    """What was read; bytes themselves cannot be referred to weakly."""


class _Handle:
    """What Arrow asks of a file; reading is no method of it, whose frames would keep it alive."""

    closed = False

    def __init__(self, read: Callable[[int], _Block]) -> None:
        self.read_buffer = read

    def close(self) -> None:
        """Whoever made the stream closes it."""

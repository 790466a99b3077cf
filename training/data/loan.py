"""A Python stream lent to Arrow, which reads ahead in threads of its own, and taken back."""

from __future__ import annotations

import io
import threading
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
    interpreter to come back. What reads must be let go of before the `with` is left.
    """

    def __init__(self, stream: io.RawIOBase) -> None:
        self._stream = stream
        self._over = threading.Event()
        self._dropped = threading.Event()
        self._dropped.set()

    def file(self) -> pa.PythonFile:
        """Return the stream as Arrow takes it; called once."""
        self._dropped.clear()
        handle = _Handle(self._read)
        # Arrow holds the handle as long as anything of it may read.
        weakref.finalize(handle, self._dropped.set).atexit = False
        return pa.PythonFile(handle, mode="r")

    @property
    def returned(self) -> bool:
        """Whether Arrow has let go of the stream."""
        return self._dropped.is_set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._dropped.wait(_PATIENCE_SECONDS)

    def _read(self, size: int = -1) -> bytes:
        # At its end as soon as the loan is over.
        return b"" if self._over.is_set() else self._stream.read(size) or b""


class _Handle:
    """What Arrow asks of a file. No method of its own: an error's traceback would keep it."""

    closed = False

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self.read = read

    def close(self) -> None:
        """Whoever made the stream closes it."""

"""Compiling by numba, kept on disk where that is possible.

numba keeps the machine code, by processor and version, in `NUMBA_CACHE_DIR`, else beside the
source, else in the user's cache directory, whichever it can write first. Where it can write none,
or what stands there cannot be read, the function is compiled in memory.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Set
from typing import Any

import numba

log = logging.getLogger(__name__)


def compiled(
    signature: Any, *, fastmath: Set[str] = frozenset()
) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator: its function, compiled for `signature`, without the interpreter lock.

    `fastmath` names what LLVM may assume of its arithmetic.
    """

    def compile_now(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(signature, nogil=True, cache=True, fastmath=set(fastmath))(function)
        except Exception as error:  # the cache's faults have no common type: it holds pickles
            log.info("%s is compiled without a cache on disk: %s", function.__name__, error)
            return numba.njit(signature, nogil=True, fastmath=set(fastmath))(function)

    return compile_now

"""Keep glibc from giving large temporaries back to the kernel after every step.

A batch of full-catalog logits is mapped, zeroed page by page and unmapped each step under the
default thresholds, which costs far more than the arithmetic on some machines.
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_ONE_GIB = 1 << 30


def tame_allocator() -> bool:
    """Tell glibc to keep freed memory for reuse in this process; False where that is unknown."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    return bool(
        mallopt(_M_MMAP_MAX, 0)
        and mallopt(_M_TRIM_THRESHOLD, _ONE_GIB)
        and mallopt(_M_MMAP_THRESHOLD, _ONE_GIB)
    )

"""Recommendation ids: ULIDs, sortable by time, unguessable enough, 26 characters.

Each names the version of the model that answered, so that what a click is booked on can be told
years later, from the data set alone.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from functools import lru_cache

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = tuple(high + low for high in _ALPHABET for low in _ALPHABET)
_SHIFTS = tuple(range(120, -1, -10))
_BLOCK = 4096
PATTERN = r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$"
_TIME_CHARACTERS = 10


class RandomBytes:
    """The kernel's random bytes, fetched by the block: a system call per id is the dearest part.

    For one thread. A forked child starts a block of its own.
    """

    def __init__(self) -> None:
        self._block, self._used = b"", 0
        os.register_at_fork(after_in_child=self._forget)

    def __call__(self, count: int) -> bytes:
        """Return `count` random bytes, at most 4096, never returned before."""
        start = self._used
        if start + count > len(self._block):
            self._block, start = os.urandom(_BLOCK), 0
        self._used = start + count
        return self._block[start : self._used]

    def _forget(self) -> None:
        self._block, self._used = b"", 0


class Ulids:
    """Makes recommendation ids."""

    def __init__(self) -> None:
        self._random = RandomBytes()

    def __call__(self, version: str = "") -> str:
        """Return 48 bits of Unix milliseconds, 20 that name `version`, and 60 random ones.

        All in Crockford's base 32; the version's are the four characters of `tag_of`.
        """
        random = int.from_bytes(self._random(8)) >> 4
        number = (time.time_ns() // 1_000_000) << 80 | _tag(version) << 60 | random
        return "".join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])


def tag_of(version: str) -> str:
    """Return the four characters, 11 to 14, of every id that was made for this version."""
    tag = _tag(version)
    return _PAIRS[tag >> 10] + _PAIRS[tag & 1023]


@lru_cache(maxsize=64)
def _tag(version: str) -> int:
    return int.from_bytes(hashlib.blake2b(version.encode(), digest_size=3).digest()) >> 4


def made_at_ms(ulid: str) -> int | None:
    """Return the Unix milliseconds in which an id was made; None when it is none of ours."""
    if re.match(PATTERN, ulid) is None:
        return None
    number = 0
    for character in ulid[:_TIME_CHARACTERS]:
        number = number << 5 | _ALPHABET.index(character)
    return number

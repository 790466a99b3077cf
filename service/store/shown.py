"""What one recommendation showed, small enough to be kept for every one of them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from functools import lru_cache

from service.store.contract import Shown

_FINGERPRINT_BYTES = 4


def shown(variant: str, submodel: str | None, external_ids: Sequence[str]) -> Shown:
    """Return what a list of these items showed."""
    prints = [_fingerprint(external_id) for external_id in external_ids]
    packed = struct.pack(f"<{len(prints)}I", *prints)
    return Shown(variant=variant, submodel=submodel, fingerprints=packed)


def holds(one: Shown, external_id: str) -> bool:
    """Return whether the item was shown; one in 2**32 is taken for another."""
    wanted = struct.pack("<I", _fingerprint(external_id))
    return any(
        one.fingerprints[start : start + _FINGERPRINT_BYTES] == wanted
        for start in range(0, len(one.fingerprints), _FINGERPRINT_BYTES)
    )


def encode(one: Shown) -> bytes:
    """Return the bytes that `decode` reads."""
    return f"{one.variant}|{one.submodel or ''}|".encode() + one.fingerprints


def decode(record: bytes) -> Shown | None:
    """Return what `encode` wrote; None for anything else."""
    parts = record.split(b"|", 2)
    if len(parts) != 3 or len(parts[2]) % _FINGERPRINT_BYTES:
        return None
    try:
        variant, submodel = parts[0].decode("ascii"), parts[1].decode("ascii")
    except UnicodeDecodeError:
        return None
    return Shown(variant=variant, submodel=submodel or None, fingerprints=parts[2])


# Most answers hold popular items.
@lru_cache(maxsize=16_384)
def _fingerprint(external_id: str) -> int:
    return zlib.crc32(external_id.encode("utf-8", "surrogatepass"))

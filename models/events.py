"""The contract between the service, which writes events to Redis, and the trainer, who drains them.

Names only; docs/adr/0002-event-write.md says what an entry of a stream holds.
"""

from __future__ import annotations

import hashlib
import zlib
from typing import Final

KEY_PREFIX: Final = "canet:1"
EVENT_STREAMS: Final = 16
IDENTITY_BYTES: Final = 8


def stream_key(prefix: str, shard: int) -> str:
    """Return the key of event stream `shard`, 0..EVENT_STREAMS - 1."""
    return f"{prefix}:ev:{{{shard}}}"


def wishes_key(prefix: str, shard: int) -> str:
    """Return the key of the list of deletions and merges of stream `shard`, as `id op data`.

    They stand in the stream as well, which may be trimmed before anybody drains it; these wait.
    """
    return f"{prefix}:wish:{{{shard}}}"


def stream_shard(user_id: str) -> int:
    """Return the event stream that holds all of a user's entries."""
    return zlib.crc32(user_id.encode()) % EVENT_STREAMS


def active_model_key(prefix: str) -> str:
    """Return the key, and the Pub/Sub channel, that tell which version was published last.

    Both carry JSON with `version` and `published_at`. They hasten a look at CURRENT, which alone
    decides.
    """
    return f"{prefix}:model:active"


def event_identity(external_id: str, timestamp_ms: int, event_id: str | None) -> bytes:
    """Return the 8 bytes by which one user's event is known again.

    The user is no part of it: a merge recognises what both users hold.
    """
    text = f"t:{timestamp_ms}:{external_id}" if event_id is None else f"e:{event_id}"
    return hashlib.blake2b(text.encode(), digest_size=IDENTITY_BYTES).digest()

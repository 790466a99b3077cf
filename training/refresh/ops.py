"""What users asked to have forgotten or merged, and what that means for one interaction.

An operation names its user by a keyed hash, so that the list of whom to forget does not itself
remember them. It stays for good: files of interactions that still hold the user are filtered by
it in every later training.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from training.refresh.entries import Forget, Merge, StreamId

OPS_SCHEMA = pa.schema(
    [
        ("user_key", pa.string()),
        ("target", pa.string()),
        ("target_key", pa.string()),
        ("stream_ms", pa.int64()),
        ("stream_seq", pa.int64()),
        ("shard", pa.int16()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """Forget the user's past, or, with a `target_key`, hand it to another user.

    `target` is None where the target was forgotten later: its key still leads on to that.
    """

    at: StreamId
    shard: int
    user_key: str
    target: str | None = None
    target_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose an interaction is, and since which place in the streams."""

    user_id: str
    since: StreamId


class UserKeys:
    """User ids as keyed hashes; the key is drawn once and kept in a file beside the data."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            temporary = path.with_name(f".tmp-{path.name}")
            with temporary.open("w") as handle:
                handle.write(os.urandom(32).hex())
                handle.flush()
                os.fsync(handle.fileno())
            temporary.chmod(0o600)
            temporary.replace(path)
        self._key = bytes.fromhex(path.read_text().strip())

    def of(self, user_id: str) -> str:
        """Return the user's key, 32 hexadecimal digits."""
        return hashlib.blake2b(user_id.encode(), digest_size=16, key=self._key).hexdigest()

    def op(self, row: Forget | Merge, shard: int) -> Op:
        """Return the operation that an entry of stream `shard` asks for."""
        target = row.target if isinstance(row, Merge) else None
        return Op(
            at=row.at,
            shard=shard,
            user_key=self.of(row.user_id),
            target=target,
            target_key=None if target is None else self.of(target),
        )


class Fates:
    """Follows interactions through the operations."""

    def __init__(self, ops: Sequence[Op], keys: UserKeys) -> None:
        self._keys = keys
        self._by_user: dict[str, list[Op]] = {}
        for op in sorted(ops, key=lambda op: (op.at, op.shard)):
            self._by_user.setdefault(op.user_key, []).append(op)

    def touched(self, user_id: str) -> bool:
        """Whether any operation names the user as the one whose past it concerns."""
        return self._keys.of(user_id) in self._by_user

    def of(self, user_id: str, since: StreamId) -> Owner | None:
        """Return whose an interaction is that was the user's `since`; None: it is forgotten."""
        return self._follow(user_id, self._keys.of(user_id), since)

    def scrubbed(self, ops: Sequence[Op]) -> list[Op]:
        """Return the operations without the names of targets that were forgotten since."""
        return [
            replace(op, target=None)
            if op.target is not None
            and op.target_key is not None
            and self._follow(op.target, op.target_key, StreamId(op.at.ms, -1)) is None
            else op
            for op in ops
        ]

    def _follow(self, user_id: str, key: str, since: StreamId) -> Owner | None:
        seen: set[tuple[StreamId, int]] = set()
        while True:
            op = next(
                (
                    op
                    for op in self._by_user.get(key, ())
                    if op.at > since and (op.at, op.shard) not in seen
                ),
                None,
            )
            if op is None:
                return Owner(user_id=user_id, since=since)
            if op.target_key is None:
                return None
            seen.add((op.at, op.shard))
            # Streams count within a millisecond each for itself: what another one says of the
            # same millisecond applies. Rather forget too much than too little.
            user_id, key, since = op.target or "", op.target_key, StreamId(op.at.ms, -1)


def ops_table(ops: Sequence[Op]) -> pa.Table:
    """Return the operations as rows of OPS_SCHEMA."""
    columns = (
        [op.user_key for op in ops],
        [op.target for op in ops],
        [op.target_key for op in ops],
        [op.at.ms for op in ops],
        [op.at.seq for op in ops],
        [op.shard for op in ops],
    )
    arrays = [
        pa.array(column, type=field.type) for column, field in zip(columns, OPS_SCHEMA, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=OPS_SCHEMA)


def ops_of(table: pa.Table) -> Iterator[Op]:
    """Return the operations of a table of OPS_SCHEMA."""
    for row in table.to_pylist():
        yield Op(
            at=StreamId(row["stream_ms"], row["stream_seq"]),
            shard=row["shard"],
            user_key=row["user_key"],
            target=row["target"],
            target_key=row["target_key"],
        )

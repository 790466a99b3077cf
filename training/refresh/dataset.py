"""The data set that the trainer keeps: events as Parquet by day, and what was forgotten.

    <dataset>/events/date=2026-11-21/s03-1795246800000.0-1795246899123.4.parquet
    <dataset>/ops/s03-1795246800000.0-1795246899123.4.parquet   what batches ask to forget or merge
    <dataset>/ops/s03-wish-1795246800000.7-1795246800000.7.parquet  the same, where no batch came
    <dataset>/ops/applied.parquet       the same of all batches whose wishes were carried out
    <dataset>/suppression.key           turns user ids into the keys that `ops` hold
    <dataset>/FORMAT                    1: what the files hold
    <dataset>/.lock                     held by the one process that writes

A file is one batch of one stream and its name the range of stream ids it stands for, so the
newest name of a stream is how far it was drained: that is told by the same rename that makes the
rows visible, and nothing can come between. A file whose range lies inside another's was compacted
into that one and is not read. The day is the stream's, in UTC, when the service took the event.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from training.data.errors import DataError
from training.refresh.entries import Event, StreamId
from training.refresh.errors import BusyError
from training.refresh.ops import OPS_SCHEMA, Op, UserKeys, ops_of, ops_table

EVENTS_SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("timestamp", pa.timestamp("ms", tz="UTC")),
        ("type", pa.string()),
        ("event_id", pa.string()),
        ("recommendation_id", pa.string()),
        ("value", pa.float64()),
        ("stream_ms", pa.int64()),
        ("stream_seq", pa.int64()),
        # From this moment on the row is the user's: its own, or that of the merge that moved it.
        ("since_ms", pa.int64()),
        ("since_seq", pa.int64()),
    ]
)
_NAME = re.compile(r"s(\d\d)-(\d+)\.(\d+)-(\d+)\.(\d+)\.parquet")
_APPLIED = "applied.parquet"
_FORMAT = "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One file: the entries `first` to `last` of stream `shard`, as far as they are kept."""

    path: Path
    shard: int
    first: StreamId
    last: StreamId

    def within(self, other: Part) -> bool:
        """Whether the other file stands for all that this one does, and is another file."""
        return (
            self.path != other.path
            and self.shard == other.shard
            and other.first <= self.first
            and self.last <= other.last
        )


class DataSet:
    """A data set opened for writing; made when it does not exist. One process at a time.

    Raises BusyError when another process has it open, DataError when it cannot be written or is
    in a format that this release does not know.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.events = root / "events"
        self.ops = root / "ops"
        self._lock = -1

    def __enter__(self) -> Self:
        try:
            for directory in (self.events, self.ops):
                directory.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._check_format()
            self.keys = UserKeys(self.root / "suppression.key")
            for path in self.root.rglob(".tmp-*"):
                path.unlink()  # of a killed writer: the lock says there is no other
        except BlockingIOError:
            self._close()
            raise BusyError(
                f"another process on this machine holds the data set {self.root.name}; it is "
                "free again when that process ends",
                1.0,
            ) from None
        except OSError as error:
            self._close()
            raise DataError(
                f"the data set {self.root} cannot be written: {error.strerror}; give this process "
                "a directory of its own with --dataset"
            ) from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def _check_format(self) -> None:
        path = self.root / "FORMAT"
        if not path.exists():
            with replacing(path) as temporary:
                temporary.write_text(f"{_FORMAT}\n")
        found = path.read_text(errors="replace").strip()
        if found != _FORMAT:
            self._close()
            raise DataError(
                f"the data set {self.root.name} is in format {found[:20]!r}, this release reads "
                f"{_FORMAT}: run the release that wrote it, or a newer one"
            )

    def _close(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def parts(self) -> list[Part]:
        """Return the files that are read, by stream and place in it."""
        return [part for part in _sorted(self.events.glob("date=*/s*.parquet")) if part.live]

    def superseded(self) -> list[Path]:
        """Return the files that were compacted into others and may go."""
        return [one.path for one in _sorted(self.events.glob("date=*/s*.parquet")) if not one.live]

    def watermarks(self) -> dict[int, StreamId]:
        """Return, by stream, the newest entry that is safe here; absent where none is."""
        found: dict[int, StreamId] = {}
        for part in self.parts():
            found[part.shard] = max(part.last, found.get(part.shard, part.last))
        return found

    def commit(
        self,
        shard: int,
        first: StreamId,
        last: StreamId,
        events: Sequence[Event],
        ops: Sequence[Op],
    ) -> None:
        """Make one batch durable; when this returns the watermark is `last`.

        All entries are of one day. Killed in between, the batch is not there, and may be
        committed again with more entries: operations that are there already are known by their
        place.
        """
        name = f"s{shard:02d}-{first.ms}.{first.seq}-{last.ms}.{last.seq}.parquet"
        if ops:
            write_table(self.ops / name, ops_table(ops))
        day = self.events / f"date={day_of(last)}"
        if not day.exists():
            day.mkdir()
            _sync(self.events)
        write_table(day / name, events_table(events))

    def commit_ops(self, shard: int, ops: Sequence[Op]) -> None:
        """Make operations durable whose batch never came, in the order of their places."""
        first, last = ops[0].at, ops[-1].at
        # No batch has such a name, so none is replaced.
        name = f"s{shard:02d}-wish-{first.ms}.{first.seq}-{last.ms}.{last.seq}.parquet"
        write_table(self.ops / name, ops_table(ops))

    def load_ops(self) -> list[Op]:
        """Return every operation once, by its place in the streams."""
        paths = [*sorted(self.ops.glob("s*.parquet")), self.ops / _APPLIED]
        found: dict[tuple[StreamId, int], Op] = {}
        for path in paths:  # what was applied comes last: its wiped targets win
            if path.exists():
                for op in ops_of(pq.read_table(path, schema=OPS_SCHEMA)):
                    found[op.at, op.shard] = op
        return [found[place] for place in sorted(found)]

    def unapplied(self) -> list[Path]:
        """Return the files of operations that were perhaps not carried out on all events."""
        return sorted(self.ops.glob("s*.parquet"))

    def applied(self, ops: Sequence[Op], paths: Sequence[Path]) -> None:
        """Remember `ops` as carried out, and drop the batches' own files."""
        write_table(self.ops / _APPLIED, ops_table(ops))
        for path in paths:
            path.unlink()
        _sync(self.ops)


def day_of(at: StreamId) -> str:
    """Return the entry's day in UTC, 2026-11-21."""
    return datetime.fromtimestamp(at.ms / 1000, UTC).strftime("%Y-%m-%d")


def events_table(events: Sequence[Event]) -> pa.Table:
    """Return the events as rows of EVENTS_SCHEMA."""
    columns = {
        "user_id": [event.user_id for event in events],
        "item_id": [event.item_id for event in events],
        "timestamp": [event.timestamp_ms for event in events],
        "type": [event.type for event in events],
        "event_id": [event.identity for event in events],
        "recommendation_id": [event.recommendation_id for event in events],
        "value": [event.value for event in events],
        "stream_ms": [event.at.ms for event in events],
        "stream_seq": [event.at.seq for event in events],
        "since_ms": [event.at.ms for event in events],
        "since_seq": [event.at.seq for event in events],
    }
    arrays = [pa.array(columns[field.name], type=field.type) for field in EVENTS_SCHEMA]
    return pa.Table.from_arrays(arrays, schema=EVENTS_SCHEMA)


def write_table(path: Path, table: pa.Table) -> None:
    """Make `path` hold the table, durably; a kill leaves what was there before."""
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path; afterwards its content is durably at `path`."""
    temporary = path.with_name(f".tmp-{path.name}")
    yield temporary
    with temporary.open("rb") as handle:
        os.fsync(handle.fileno())
    temporary.replace(path)
    _sync(path.parent)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found(Part):
    live: bool


def _sorted(paths: Iterator[Path]) -> list[_Found]:
    found = []
    for path in paths:
        match = _NAME.fullmatch(path.name)
        if match is not None:
            shard, *ids = map(int, match.groups())
            first, last = StreamId(*ids[:2]), StreamId(*ids[2:])
            found.append(Part(path=path, shard=shard, first=first, last=last))
    # A container sorts before what it contains, so that one look back is enough.
    found.sort(key=lambda part: (part.shard, part.first, -part.last.ms, -part.last.seq))
    judged: list[_Found] = []
    widest: Part | None = None
    for part in found:
        inside = widest is not None and part.within(widest)
        judged.append(
            _Found(
                path=part.path,
                shard=part.shard,
                first=part.first,
                last=part.last,
                live=not inside,
            )
        )
        if not inside:
            widest = part
    return judged


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

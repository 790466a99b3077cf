"""Interactions: who met which item when, read from a person's own file."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from training.data.columns import ColumnNames, Columns
from training.data.errors import DataError
from training.data.parquet_reader import bad_examples, parquet_parts, read_parquet
from training.data.rows import MAX_SHOWN, BadRow, Chunk, RowCollector, Rows, compact
from training.data.text_format import Progress
from training.data.text_reader import read_text


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadReport:
    """What was read. `repeat_share`: rows whose (user, item) was seen before, in 0..1.

    `duplicates` are rows equal in user, item and time to an earlier one; they are kept unless
    asked otherwise, as two of one thing in one basket look the same. `time_kind` says what the
    times are: "time", "position" (small numbers that only order) or "file order" (none given).
    """

    source: str
    columns: Columns | None
    rows: int
    total_rows: int
    bad_rows: int
    bad_examples: tuple[BadRow, ...]
    duplicates: int
    dropped_rows: int
    users: int
    items: int
    short_users: int
    min_user_interactions: int
    first_time_ms: int
    last_time_ms: int
    time_kind: str
    repeat_share: float

    def summary(self) -> str:
        """Return the report as lines for a person."""
        lines = [f"read {self.source}"]
        if self.columns is not None:
            found = self.columns
            lines.append(
                f"columns: user={found.user}, item={found.item}, "
                f"timestamp={found.timestamp or 'none, file order'}"
            )
        lines.append(f"{self.rows:,} interactions of {self.users:,} users, {self.items:,} items")
        if self.time_kind == "time":
            lines.append(f"from {_date(self.first_time_ms)} to {_date(self.last_time_ms)}")
        else:
            lines.append(f"order known, times not ({self.time_kind})")
        lines.append(f"repeats: {self.repeat_share:.1%}, exact duplicates: {self.duplicates:,}")
        if self.dropped_rows:
            lines.append(
                f"left out: {self.dropped_rows:,} duplicates or rows of users with fewer than "
                f"{self.min_user_interactions} interactions"
            )
        if self.short_users:
            lines.append(
                f"{self.short_users:,} users with fewer than 3 interactions: training only"
            )
        if self.bad_rows:
            lines.append(f"bad rows left out: {self.bad_rows:,} of {self.total_rows:,}; the first:")
            lines += [f"  {row}" for row in self.bad_examples]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Interactions:
    """Rows sorted by user, then time; ties keep the order of the source.

    user_codes, item_codes: (n,) int32, places in `user_ids` and `item_ids`, which stand in
    order of first appearance in the source. timestamps: (n,) int64 milliseconds. The arrays
    are read-only. `digest` is the sha256 of all of this, alike for any file format.
    """

    user_codes: NDArray[np.int32]
    item_codes: NDArray[np.int32]
    timestamps: NDArray[np.int64]
    user_ids: list[str]
    item_ids: list[str]
    report: ReadReport
    digest: str

    def __len__(self) -> int:
        return len(self.user_codes)

    @property
    def num_users(self) -> int:
        """Distinct users."""
        return len(self.user_ids)

    @property
    def num_items(self) -> int:
        """Distinct items."""
        return len(self.item_ids)

    @property
    def has_times(self) -> bool:
        """Whether timestamps are moments, not only an order."""
        return self.report.time_kind == "time"

    def offsets(self) -> NDArray[np.int64]:
        """Return (users + 1,) int64: user `u` owns rows [offsets[u], offsets[u + 1])."""
        lengths = np.bincount(self.user_codes, minlength=self.num_users)
        return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def read_interactions(
    path: Path | str,
    columns: ColumnNames | None = None,
    *,
    strict: bool = False,
    on_progress: Progress | None = None,
    min_user_interactions: int = 1,
    drop_duplicates: bool = False,
) -> Interactions:
    """Return the interactions of a text or Parquet file, or of a directory of Parquet parts.

    Text may be separated by `::`, tab, comma, semicolon, `|` or space, have a header (also
    RecBole's typed one) or none, and be gzipped. Numbers as times may be seconds, milli-, micro-
    or nanoseconds, told by their size; texts are RFC 3339, UTC without a zone. Rows without a
    usable id or time are left out and reported.

    Args:
        path: the file or directory.
        columns: names of the columns; None, or None in a field, detects common names.
        strict: refuse the file if it has a bad row.
        on_progress: called with (done, total) bytes.
        min_user_interactions: users with fewer rows are left out.
        drop_duplicates: keep the first only of rows equal in user, item and time.

    Raises:
        DataError: nothing usable, unknown columns, unreadable, or bad rows under `strict`.
    """
    path, names = Path(path), columns or ColumnNames()
    if min_user_interactions < 1:
        raise DataError(f"min_user_interactions is {min_user_interactions}, at least 1 is needed")
    if not path.exists():
        raise DataError(f"{path} does not exist")
    collector = RowCollector()
    found: Columns
    try:
        if path.is_dir() or path.suffix.lower() in {".parquet", ".pq"}:
            parts = parquet_parts(path) if path.is_dir() else [path]
            found = read_parquet(parts, path, names, collector, on_progress)
            rows = collector.finish()
            source = f"{path.name}: Parquet, {len(parts)} file{'s' if len(parts) > 1 else ''}"
            bad, total, examples = collector.bad, collector.total, bad_examples(collector)
        else:
            text, rows = read_text(path, names, collector, on_progress)
            source, found = f"{path.name}: {text.format}", text.format.columns
            bad, total, examples = text.bad_rows, text.total_rows, text.examples
    except DataError:
        raise
    except (OSError, EOFError, zlib.error, pa.ArrowException, ValueError, OverflowError) as error:
        raise DataError(f"cannot read {path.name}: {error}") from error
    shown = tuple(examples[:MAX_SHOWN])
    if bad and strict:
        raise DataError(_complaint(f"{path.name} has {bad:,} bad rows of {total:,}", shown))
    if not len(rows.users):
        raise DataError(_complaint(f"{path.name} has no usable row of {total:,}", shown))
    return _assemble(
        rows,
        source=source,
        columns=found,
        total_rows=total,
        bad_rows=bad,
        examples=shown,
        min_user_interactions=min_user_interactions,
        drop_duplicates=drop_duplicates,
    )


def make_interactions(
    users: Sequence[str],
    items: Sequence[str],
    timestamps: Sequence[int | float] | NDArray[np.int64] | None = None,
    *,
    source: str = "memory",
) -> Interactions:
    """Return interactions from columns in memory, checked like a file's; one bad row refuses all.

    Timestamps are numbers as in a file: their unit is told by their size. None: source order.

    Raises:
        DataError: columns of different length, no rows, a bad row.
    """
    if len(users) != len(items) or (timestamps is not None and len(timestamps) != len(users)):
        raise DataError(f"{source}: users, items and timestamps differ in length")
    from_rows = RowCollector()
    from_rows.add_columns(source, users, items, timestamps)
    return _from_collector(from_rows, source=source, strict=True)


def join_interactions(chunks: Iterable[Chunk], *, source: str) -> Interactions:
    """Return the good rows of all chunks, in order; bad ones are left out and reported.

    Raises:
        DataError: no good row, or some chunks have times and some have none.
    """
    collector = RowCollector()
    for chunk in chunks:
        collector.add(chunk)
    return _from_collector(collector, source=source, strict=False)


def _from_collector(collector: RowCollector, *, source: str, strict: bool) -> Interactions:
    rows = collector.finish()
    examples = tuple(bad_examples(collector)[:MAX_SHOWN])
    if not len(rows.users) or (strict and collector.bad):
        raise DataError(
            _complaint(f"{source} has {collector.bad:,} bad rows of {collector.total:,}", examples)
        )
    return _assemble(
        rows,
        source=source,
        columns=None,
        total_rows=collector.total,
        bad_rows=collector.bad,
        examples=examples,
    )


def _assemble(
    rows: Rows,
    *,
    source: str,
    columns: Columns | None,
    total_rows: int,
    bad_rows: int = 0,
    examples: tuple[BadRow, ...] = (),
    min_user_interactions: int = 1,
    drop_duplicates: bool = False,
) -> Interactions:
    users, items, times = rows.users, rows.items, rows.times
    user_ids, item_ids = rows.user_ids, rows.item_ids
    if not _is_sorted(users, times):
        order = np.lexsort((times, users))  # stable: ties keep the source's order
        users, items, times = users[order], items[order], times[order]
    repeats, duplicate = _repeats(users, items, times, len(item_ids))
    duplicates = int(duplicate.sum())
    keep = ~duplicate if drop_duplicates else np.ones(len(users), dtype=np.bool_)
    if min_user_interactions > 1:
        lengths = np.bincount(users[keep], minlength=len(user_ids))
        keep &= lengths[users] >= min_user_interactions
    dropped = int(len(keep) - keep.sum())
    if dropped:
        users, items, times = users[keep], items[keep], times[keep]
        if not len(users):
            raise DataError(f"{source}: no user has {min_user_interactions} interactions")
        users, user_ids = compact(users, user_ids)
        items, item_ids = compact(items, item_ids)
        repeats, _ = _repeats(users, items, times, len(item_ids))
    for column in (users, items, times):
        column.flags.writeable = False
    report = ReadReport(
        source=source,
        columns=columns,
        rows=len(users),
        total_rows=total_rows,
        bad_rows=bad_rows,
        bad_examples=examples,
        duplicates=duplicates,
        dropped_rows=dropped,
        users=len(user_ids),
        items=len(item_ids),
        short_users=int((np.bincount(users) < 3).sum()),
        min_user_interactions=min_user_interactions,
        first_time_ms=int(times.min()),
        last_time_ms=int(times.max()),
        time_kind=rows.time_kind,
        repeat_share=repeats / len(users),
    )
    return Interactions(
        user_codes=users,
        item_codes=items,
        timestamps=times,
        user_ids=user_ids,
        item_ids=item_ids,
        report=report,
        digest=_digest(rows.time_kind, users, items, times, user_ids, item_ids),
    )


def _is_sorted(users: NDArray[np.int32], times: NDArray[np.int64]) -> bool:
    step = np.diff(users)
    return bool(np.all((step > 0) | ((step == 0) & (np.diff(times) >= 0))))


def _repeats(
    users: NDArray[np.int32], items: NDArray[np.int32], times: NDArray[np.int64], num_items: int
) -> tuple[int, NDArray[np.bool_]]:
    """Return how many rows repeat a (user, item), and which (n,) repeat the time as well."""
    pairs = users.astype(np.int64) * num_items + items
    order = np.argsort(pairs, kind="stable")  # times rise inside a pair, since rows are sorted
    pairs = pairs[order]
    again = pairs[1:] == pairs[:-1]
    same_time = again & (times[order[1:]] == times[order[:-1]])
    duplicate = np.zeros(len(users), dtype=np.bool_)
    duplicate[order[1:][same_time]] = True
    return int(again.sum()), duplicate


def _digest(
    kind: str,
    users: NDArray[np.int32],
    items: NDArray[np.int32],
    times: NDArray[np.int64],
    user_ids: list[str],
    item_ids: list[str],
) -> str:
    content = hashlib.sha256(f"interactions 1 {kind} {len(users)}\n".encode())
    for ids in (user_ids, item_ids):
        content.update(f"{len(ids)}\n".encode())
        content.update("\n".join(ids).encode())  # ids hold no line break
    for column in (users.astype("<i4"), items.astype("<i4"), times.astype("<i8")):
        content.update(np.ascontiguousarray(column).data)
    return content.hexdigest()


def _complaint(what: str, examples: Sequence[BadRow]) -> str:
    return "\n".join([what + (", the first:" if examples else ""), *(f"  {e}" for e in examples)])


def _date(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, tz=UTC).strftime("%Y-%m-%d %H:%M")

"""Rows of any source, checked and turned into codes, chunk by chunk."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from training.data.errors import DataError
from training.data.times import LATEST_MS, POSITION_LIMIT, parse_times, unit_scale

MAX_ID_LENGTH = 256
MAX_SHOWN = 10

# Unicode's own stand-in for what cannot be decoded; in an id it is refused like any control
# character.
SUBSTITUTE = "\x1a"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_MISSING = frozenset({"", "nan", "null", "none", "\\n", "<na>"})


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRow:
    """A row that was left out. `line` counts from 1: lines of a text, rows of a Parquet file."""

    file: str
    line: int
    reason: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}: {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Some rows of a source, in order; `times` is None when the source has no times.

    `first_row` is the number of rows of the same file before this chunk.
    """

    file: str
    first_row: int
    users: pa.Array
    items: pa.Array
    times: pa.Array | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """One row refused: `row` counts the file's rows from 0."""

    file: str
    row: int
    reason: str
    text: str
    blank: bool = False  # every column read is empty: perhaps only an empty line


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The good rows in the source's order: codes by first appearance, times in milliseconds."""

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    times: NDArray[np.int64]
    user_ids: list[str]
    item_ids: list[str]
    time_kind: str


def clean_id(value: Any) -> tuple[str | None, str]:
    """Return (external id, "") or (None, what is wrong with it).

    Whitespace around it goes; whole floats, which pandas makes of integers, lose their point.
    """
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError:
            return None, "is not UTF-8"
    if value is None:
        return None, "is empty"
    if isinstance(value, float):
        if not np.isfinite(value):
            return None, "is empty" if np.isnan(value) else "is infinite"
        value = int(value) if value.is_integer() else value
    text = str(value).strip(" \t")
    if text.lower() in _MISSING:
        return None, "is empty"
    if len(text) > MAX_ID_LENGTH:
        return None, f"is longer than {MAX_ID_LENGTH} characters"
    if SUBSTITUTE in text:
        return None, "is not UTF-8"
    if _CONTROL.search(text):
        return None, "has a control character"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return None, "is not UTF-8"
    return text, ""


class IdTable:
    """External ids and their codes, numbered by first appearance."""

    def __init__(self) -> None:
        self.codes: dict[str, int] = {}

    def encode(self, column: pa.Array) -> NDArray[np.int32]:
        """Return codes (rows,); -1 where the value is no id."""
        if not pa.types.is_dictionary(column.type):
            column = _one_array(column.dictionary_encode())
        lookup = np.full(len(column.dictionary) + 1, -1, dtype=np.int32)
        # In a chunk's dictionary values stand by first appearance, so codes do too.
        for place, value in enumerate(column.dictionary.to_pylist()):
            text, _ = clean_id(value)
            if text is not None:
                lookup[place] = self.codes.setdefault(text, len(self.codes))
        places = column.indices.cast(pa.int64()).fill_null(len(lookup) - 1)
        codes: NDArray[np.int32] = lookup[places.to_numpy(zero_copy_only=False)]
        return codes


@dataclass(slots=True)
class RowCollector:
    """Takes chunks in the source's order; `finish` returns their good rows.

    `bad` counts the refused rows; `refused` holds the first few and every blank one.
    """

    user_table: IdTable = field(default_factory=IdTable)
    item_table: IdTable = field(default_factory=IdTable)
    total: int = 0
    bad: int = 0
    refused: list[Refused] = field(default_factory=list)
    _users: list[NDArray[np.int32]] = field(default_factory=list)
    _items: list[NDArray[np.int32]] = field(default_factory=list)
    _times: list[NDArray[np.float64]] = field(default_factory=list)
    _exact: list[NDArray[np.bool_]] = field(default_factory=list)
    _origins: list[tuple[str, NDArray[np.int64]]] = field(default_factory=list)
    _timed: bool | None = None
    _shown: int = 0

    def add(self, chunk: Chunk) -> None:
        """Check the chunk's rows and keep the good ones."""
        rows = len(chunk.users)
        self.total += rows
        users = self.user_table.encode(chunk.users)
        items = self.item_table.encode(chunk.items)
        timed = chunk.times is not None
        if self._timed is not None and timed != self._timed:
            raise DataError(f"{chunk.file}: some parts have a timestamp column and some have none")
        self._timed = timed
        good = (users >= 0) & (items >= 0)
        if chunk.times is not None:
            values, exact = parse_times(chunk.times)
            good &= values >= 0  # false for NaN
            self._times.append(values[good])
            self._exact.append(exact[good])
        if not good.all():
            self._refuse(chunk, np.flatnonzero(~good))
        self._users.append(users[good])
        self._items.append(items[good])
        self._origins.append((chunk.file, chunk.first_row + np.flatnonzero(good)))

    def add_columns(
        self, source: str, users: Sequence[Any], items: Sequence[Any], times: Any | None
    ) -> None:
        """Check and keep rows that stand in memory."""
        self.add(
            Chunk(
                file=source,
                first_row=0,
                users=pa.array(users, type=pa.string()),
                items=pa.array(items, type=pa.string()),
                times=pa.array(times) if times is not None else None,
            )
        )

    def _refuse(self, chunk: Chunk, places: NDArray[np.int64]) -> None:
        self.bad += len(places)
        blank = _empty(chunk.users) & _empty(chunk.items)
        if chunk.times is not None:
            blank &= _empty(chunk.times)
        shown = [place for place in places.tolist() if not blank[place]][: MAX_SHOWN - self._shown]
        self._shown += len(shown)
        for place in sorted([*shown, *np.flatnonzero(blank).tolist()]):
            reason, text = _explain(chunk, place)
            self.refused.append(
                Refused(
                    file=chunk.file,
                    row=chunk.first_row + place,
                    reason=reason,
                    text=text,
                    blank=bool(blank[place]),
                )
            )

    def finish(self) -> Rows:
        """Return the good rows with codes that leave no gaps."""
        users = _join(self._users, np.int32)
        items = _join(self._items, np.int32)
        if self._timed:
            times, keep, kind = self._milliseconds()
            if not keep.all():
                users, items, times = users[keep], items[keep], times[keep]
        else:
            times, kind = np.arange(len(users), dtype=np.int64), "file order"
        users, user_ids = compact(users, list(self.user_table.codes))
        items, item_ids = compact(items, list(self.item_table.codes))
        return Rows(
            users=users,
            items=items,
            times=times,
            user_ids=user_ids,
            item_ids=item_ids,
            time_kind=kind,
        )

    def _milliseconds(self) -> tuple[NDArray[np.int64], NDArray[np.bool_], str]:
        values, exact = _join(self._times, np.float64), _join(self._exact, np.bool_)
        position = not exact.any() and (not len(values) or values.max() < POSITION_LIMIT)
        values[~exact] *= unit_scale(values, exact)
        keep = values <= LATEST_MS
        late = np.flatnonzero(~keep)
        self.bad += len(late)
        starts = np.cumsum([0, *(len(rows) for _, rows in self._origins)])
        for row in late[:MAX_SHOWN]:
            part = int(np.searchsorted(starts, row, "right")) - 1
            file, rows = self._origins[part]
            self.refused.append(
                Refused(
                    file=file,
                    row=int(rows[row - starts[part]]),
                    reason="timestamp lies after the year 9999 in the unit of the others",
                    text=f"{values[row]:.0f} ms",
                )
            )
        values[~keep] = 0
        # Rounding, not cutting: 1.001 s is 1000.9999999999999 ms in floating point.
        return np.rint(values).astype(np.int64), keep, "position" if position else "time"


def compact(codes: NDArray[np.int32], ids: list[str]) -> tuple[NDArray[np.int32], list[str]]:
    """Return codes without gaps and the ids in use; the order of the ids is kept."""
    used = np.zeros(len(ids), dtype=np.bool_)
    used[codes] = True
    if used.all():
        return codes, ids
    renumbered = (np.cumsum(used) - 1).astype(np.int32)
    return renumbered[codes], [ids[place] for place in np.flatnonzero(used)]


def _empty(column: pa.Array) -> NDArray[np.bool_]:
    """Return where a text column holds empty text; nowhere for other columns."""
    empty: NDArray[np.bool_] = np.zeros(len(column), dtype=np.bool_)
    if pa.types.is_dictionary(column.type):
        lookup = np.append(_empty(column.dictionary), False)
        places = column.indices.cast(pa.int64()).fill_null(len(lookup) - 1)
        empty = lookup[places.to_numpy(zero_copy_only=False)]
    elif pa.types.is_binary(column.type):
        lengths = pc.fill_null(pc.binary_length(column), -1)
        empty = lengths.to_numpy(zero_copy_only=False) == 0
    return empty


def _explain(chunk: Chunk, place: int) -> tuple[str, str]:
    """Return (what is wrong, the values as they stood)."""
    columns = [chunk.users, chunk.items, *([chunk.times] if chunk.times is not None else [])]
    raw = [column[place].as_py() for column in columns]
    text = ", ".join(_show(value) for value in raw)
    for role, value in (("user id", raw[0]), ("item id", raw[1])):
        _, wrong = clean_id(value)
        if wrong:
            return f"{role} {wrong}", text
    return "timestamp is missing, negative or neither a number nor RFC 3339", text


def _show(value: Any) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _one_array(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _join(parts: list[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.empty(0, dtype=dtype)

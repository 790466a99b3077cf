"""What a refresh trains on: a file of interactions, the data set's events, less the forgotten."""

# n rows

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from training.data.errors import NothingYetError
from training.data.interactions import Interactions, join_interactions
from training.data.rows import Chunk
from training.refresh.dataset import DataSet
from training.refresh.entries import REPLACED, StreamId
from training.refresh.ops import Fates

# Shown is not taken: an impression says what the service did, not what the user did.
NOT_TAKEN = frozenset({"impression"})
_COLUMNS = ["user_id", "item_id", "timestamp", "type", "event_id"]
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """Columns of n rows; users and items are dictionary-encoded text, times milliseconds."""

    users: pa.DictionaryArray
    items: pa.DictionaryArray
    times: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.times)

    def take(self, keep: NDArray[np.bool_]) -> _Rows:
        mask = pa.array(keep)
        return _Rows(
            users=self.users.filter(mask), items=self.items.filter(mask), times=self.times[keep]
        )

    def chunk(self, name: str, times: pa.Array) -> Chunk:
        return Chunk(file=name, first_row=0, users=self.users, items=self.items, times=times)


def training_interactions(
    dataset: DataSet,
    source: Interactions | None,
    *,
    types: Collection[str] | None = None,
    max_age_days: float | None = None,
) -> Interactions:
    """Return the source's rows and the data set's events as one.

    - Only events of `types` count; None takes all but impressions. Replaced histories count.
    - An event counts once per user and event id, and not when the source has the same user,
      item and millisecond.
    - What a user asked to have forgotten or merged holds for the source as well, for rows older
      than that; where the source has no times, for all of that user's rows.
    - Rows older than `max_age_days` before the newest one are left out, where there are times.
    - Where the source tells an order but no times, its rows come before all events.

    Raises DataError when nothing is left, NothingYetError when there never was anything.
    """
    events = _events(dataset, types)
    if source is None:
        if not len(events):
            raise NothingYetError(
                "no events were collected yet and no --data is given; there is nothing to learn"
            )
        rows = _recent(events, max_age_days)
        return join_interactions([rows.chunk("events", _moments(rows.times))], source="events")
    rows = _without_forgotten(source, Fates(dataset.load_ops(), dataset.keys))
    events = _without_known(events, rows)
    name = source.report.source
    if not source.has_times:
        chunks = [rows.chunk(name, pa.array(_places(rows)))]
        if len(events):
            after = int(_places(rows).max(initial=0)) + 1
            chunks.append(events.chunk("events", pa.array(after + _places(events))))
        return join_interactions(chunks, source=f"{name}, and {len(events):,} events")
    if max_age_days is not None:
        newest = max(int(rows.times.max(initial=0)), int(events.times.max(initial=0)))
        least = newest - int(max_age_days * _DAY_MS)
        rows, events = rows.take(rows.times >= least), events.take(events.times >= least)
    return join_interactions(
        [
            part.chunk(label, _moments(part.times))
            for label, part in ((name, rows), ("events", events))
        ],
        source=f"{name}, and {len(events):,} events",
    )


def _events(dataset: DataSet, types: Collection[str] | None) -> _Rows:
    tables = []
    for part in dataset.parts():
        table = pq.read_table(part.path, columns=_COLUMNS)
        kinds = table.column("type")
        if types is None:
            keep = pc.invert(pc.is_in(kinds, pa.array(sorted(NOT_TAKEN))))
        else:
            keep = pc.is_in(kinds, pa.array(sorted({*types, REPLACED})))
        tables.append(table.filter(keep).drop_columns(["type"]))
    if not tables:
        return _rows([], [], np.empty(0, dtype=np.int64))
    table = pa.concat_tables(tables)
    users, items, identities = (
        table.column(name).combine_chunks().dictionary_encode()
        for name in ("user_id", "item_id", "event_id")
    )
    pairs = _codes(users) * (len(identities.dictionary) + 1) + _codes(identities)
    _, first = np.unique(pairs, return_index=True)
    keep_n = np.zeros(len(pairs), dtype=np.bool_)
    keep_n[first] = True
    times = table.column("timestamp").cast(pa.int64()).combine_chunks()
    return _Rows(users=users, items=items, times=np.asarray(times)).take(keep_n)


def _without_forgotten(source: Interactions, fates: Fates) -> _Rows:
    users = source.user_codes.astype(np.int64)
    keep = np.ones(len(source), dtype=np.bool_)
    names = list(source.user_ids)
    code_of: dict[str, int] = {}
    offsets = source.offsets()
    for code, user in enumerate(source.user_ids):
        if not fates.touched(user):
            continue
        code_of = code_of or {name: place for place, name in enumerate(names)}
        for row in range(offsets[code], offsets[code + 1]):
            moment = int(source.timestamps[row]) if source.has_times else 0
            owner = fates.of(user, StreamId(moment, -1))
            if owner is None:
                keep[row] = False
            elif owner.user_id != user:
                users[row] = code_of.setdefault(owner.user_id, len(names))
                names += [owner.user_id] if users[row] == len(names) else []
    return _rows(names, source.item_ids, source.timestamps, users, source.item_codes).take(keep)


def _without_known(events: _Rows, source: _Rows) -> _Rows:
    """Leave out events that the source has too, to the millisecond."""
    wide = max(len(source.items.dictionary), 1)
    users, items = _translate(events.users, source.users), _translate(events.items, source.items)
    pairs = np.where((users >= 0) & (items >= 0), users * wide + items, -1)
    known = _codes(source.users) * wide + _codes(source.items)
    shared = np.isin(known, pairs)
    held = set(zip(known[shared].tolist(), source.times[shared].tolist(), strict=True))
    fresh = [
        pair < 0 or (pair, time) not in held
        for pair, time in zip(pairs.tolist(), events.times.tolist(), strict=True)
    ]
    return events.take(np.array(fresh, dtype=np.bool_))


def _recent(rows: _Rows, max_age_days: float | None) -> _Rows:
    if max_age_days is None:
        return rows
    return rows.take(rows.times >= int(rows.times.max()) - int(max_age_days * _DAY_MS))


def _places(rows: _Rows) -> NDArray[np.int64]:
    """Return each row's place among its user's rows by time, from 0."""
    users = _codes(rows.users)
    order = np.lexsort((rows.times, users))
    lengths = np.bincount(users, minlength=len(rows.users.dictionary))
    starts = np.cumsum(lengths) - lengths
    places = np.empty(len(rows), dtype=np.int64)
    places[order] = np.arange(len(rows)) - starts[users[order]]
    return places


def _translate(column: pa.DictionaryArray, into: pa.DictionaryArray) -> NDArray[np.int64]:
    """Return the column as codes of the other's dictionary, -1 where that lacks the text."""
    codes = {text: code for code, text in enumerate(into.dictionary.to_pylist())}
    lookup = [codes.get(text, -1) for text in column.dictionary.to_pylist()]
    return np.array([*lookup, -1], dtype=np.int64)[_codes(column)]


def _rows(
    users: Sequence[str],
    items: Sequence[str],
    times: NDArray[np.int64],
    user_codes: NDArray[np.integer] | None = None,
    item_codes: NDArray[np.integer] | None = None,
) -> _Rows:
    empty = np.empty(0, dtype=np.int64)
    encoded = [
        pa.DictionaryArray.from_arrays(
            pa.array(codes if codes is not None else empty, type=pa.int32()),
            pa.array(names, type=pa.string()),
        )
        for codes, names in ((user_codes, users), (item_codes, items))
    ]
    return _Rows(users=encoded[0], items=encoded[1], times=times)


def _codes(column: pa.DictionaryArray) -> NDArray[np.int64]:
    codes: NDArray[np.int64] = column.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return codes


def _moments(times: NDArray[np.int64]) -> pa.Array:
    return pa.array(times, type=pa.int64()).cast(pa.timestamp("ms"))

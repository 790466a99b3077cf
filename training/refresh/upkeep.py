"""Carry out what users asked for on the files of the data set, and keep the files few."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import pyarrow as pa
import pyarrow.parquet as pq

from training.refresh.dataset import EVENTS_SCHEMA, DataSet, Part, replacing, write_table
from training.refresh.entries import StreamId
from training.refresh.ops import Fates

_FEW = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Upkeep:
    """What was done: operations newly carried out, rows removed and moved, files compacted."""

    ops: int = 0
    removed: int = 0
    moved: int = 0
    compacted: int = 0


def keep_up(dataset: DataSet) -> Upkeep:
    """Carry out operations that came since the last time, then compact days of many files.

    Afterwards no file holds a row of a user from before that user was forgotten, and no
    operation names such a user. Killed at any moment it is continued by the next call.
    """
    ops = removed = moved = 0
    unapplied = dataset.unapplied()
    if unapplied:
        known = dataset.load_ops()
        fates = Fates(known, dataset.keys)
        for part in dataset.parts():
            gone, handed_on = _rewrite(part, fates)
            removed += gone
            moved += handed_on
        for path in dataset.superseded():
            path.unlink()  # it may hold rows of the forgotten
        ops = sum(pq.read_metadata(path).num_rows for path in unapplied)
        dataset.applied(fates.scrubbed(known), unapplied)
    return Upkeep(ops=ops, removed=removed, moved=moved, compacted=_compact(dataset))


def _rewrite(part: Part, fates: Fates) -> tuple[int, int]:
    """Replace the file when a row's owner changed; return (rows removed, rows moved)."""
    users = pq.read_table(part.path, columns=["user_id"]).column("user_id")
    if not any(fates.touched(user) for user in users.unique().to_pylist()):
        return 0, 0
    table = pq.read_table(part.path, schema=EVENTS_SCHEMA)
    columns = {
        name: table.column(name).to_pylist() for name in ("user_id", "since_ms", "since_seq")
    }
    keep, moved = [], 0
    for row, user in enumerate(columns["user_id"]):
        since = StreamId(columns["since_ms"][row], columns["since_seq"][row])
        owner = fates.of(user, since)
        keep.append(owner is not None)
        if owner is not None and owner.user_id != user:
            columns["user_id"][row] = owner.user_id
            columns["since_ms"][row], columns["since_seq"][row] = owner.since
            moved += 1
    if all(keep) and not moved:
        return 0, 0
    for name, values in columns.items():
        place = table.column_names.index(name)
        field = EVENTS_SCHEMA.field(place)
        table = table.set_column(place, field, pa.array(values, type=field.type))
    write_table(part.path, table.filter(pa.array(keep)))
    return len(keep) - sum(keep), moved


def _compact(dataset: DataSet) -> int:
    for path in dataset.superseded():
        path.unlink()
    compacted = 0
    by_day = groupby(dataset.parts(), key=lambda part: (part.shard, part.path.parent))
    for _, group in by_day:
        parts = list(group)
        if len(parts) <= _FEW:
            continue
        first, last = parts[0], parts[-1]
        head, _ = first.path.stem.rsplit("-", 1)
        _, tail = last.path.stem.rsplit("-", 1)
        with (
            replacing(first.path.with_name(f"{head}-{tail}.parquet")) as temporary,
            pq.ParquetWriter(temporary, EVENTS_SCHEMA, compression="zstd") as writer,
        ):
            for part in parts:
                writer.write_table(pq.read_table(part.path, schema=EVENTS_SCHEMA))
        for part in parts:
            part.path.unlink()
        compacted += len(parts)
    return compacted

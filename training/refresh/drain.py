"""From the event streams into the data set, every entry once, whenever the process is killed.

For each batch: deliver, write, rename, acknowledge, trim. The rename decides; what is delivered
again afterwards lies at or below the watermark and is only acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import redis

from models.events import EVENT_STREAMS, KEY_PREFIX
from training.refresh.dataset import DataSet, day_of
from training.refresh.entries import Event, StreamId, parse_entry
from training.refresh.ops import Op
from training.refresh.stream import Delivery, EventStream


@dataclass(slots=True, kw_only=True)
class Drained:
    """What one drain moved. `lost` fell to the streams' bound before it was drained, ever."""

    events: int = 0
    ops: int = 0
    repeated: int = 0
    malformed: int = 0
    lost: int = 0


def drain(
    client: redis.Redis,
    dataset: DataSet,
    *,
    batch_entries: int,
    before_commit: Callable[[], None] = lambda: None,
    prefix: str = KEY_PREFIX,
) -> Drained:
    """Move all that stood in the streams when this began; return what it was.

    At most `batch_entries` entries are in memory. `before_commit` may raise: nothing is written
    then. Raises redis.RedisError when the server goes away; what was committed stays.
    """
    found = Drained()
    watermarks = dataset.watermarks()
    drained: list[tuple[EventStream, StreamId]] = []
    for shard in range(EVENT_STREAMS):
        stream = EventStream(client, shard, prefix=prefix)
        end = stream.open()
        if end is None:
            continue
        watermark = watermarks.get(shard, StreamId(0, 0))
        _drain_stream(stream, dataset, watermark, end, batch_entries, before_commit, found)
        found.lost += stream.lost()
        drained.append((stream, end))
    _hear_wishes(dataset, drained, before_commit, found)
    return found


def _hear_wishes(
    dataset: DataSet,
    drained: Sequence[tuple[EventStream, StreamId]],
    before_commit: Callable[[], None],
    found: Drained,
) -> None:
    """Take over deletions and merges that fell to their stream's bound before it was drained."""
    known: set[tuple[StreamId, int]] | None = None
    for stream, end in drained:
        wishes = stream.wishes(end)
        if not wishes:
            continue
        if known is None:
            known = {(op.at, op.shard) for op in dataset.load_ops()}
        rows = [
            row
            for wish in wishes
            if wish is not None and wish.fields is not None
            for row in parse_entry(wish.at, wish.fields) or ()
            if not isinstance(row, Event) and (row.at, stream.shard) not in known
        ]
        before_commit()
        if rows:
            dataset.commit_ops(stream.shard, [dataset.keys.op(row, stream.shard) for row in rows])
            found.ops += len(rows)
        stream.grant(len(wishes))


def _drain_stream(
    stream: EventStream,
    dataset: DataSet,
    watermark: StreamId,
    end: StreamId,
    count: int,
    before_commit: Callable[[], None],
    found: Drained,
) -> None:
    for deliveries in _deliveries(stream, end, count):
        fresh = [one for one in deliveries if one.at > watermark]
        found.repeated += len(deliveries) - len(fresh)
        for _, day in groupby(fresh, key=lambda one: day_of(one.at)):
            before_commit()
            watermark = _commit(dataset, stream.shard, list(day), found)
        stream.acknowledge([one.at for one in deliveries])
    if watermark > StreamId(0, 0):
        stream.trim(watermark)


def _deliveries(stream: EventStream, end: StreamId, count: int) -> Iterator[list[Delivery]]:
    after = StreamId(0, 0)
    while again := stream.pending(after, count):
        after = again[-1].at
        yield again
    while after < end and (new := stream.new(count)):
        after = new[-1].at
        yield new


def _commit(dataset: DataSet, shard: int, day: list[Delivery], found: Drained) -> StreamId:
    events: list[Event] = []
    ops: list[Op] = []
    for delivery in day:
        rows = parse_entry(delivery.at, delivery.fields) if delivery.fields is not None else []
        if rows is None:
            found.malformed += 1
            continue
        for row in rows:
            if isinstance(row, Event):
                events.append(row)
            else:
                ops.append(dataset.keys.op(row, shard))
    dataset.commit(shard, day[0].at, day[-1].at, events, ops)
    found.events += len(events)
    found.ops += len(ops)
    return day[-1].at

"""Answers kept for a while, found by everything that they depend on.

An answer is a function of the model, the price of compute, the history and the rest of the
query, and the key is a digest of just these. The history itself stands in it, read from the store
by the very request that asks: an event that was acknowledged makes another key, and so does a
reload. Nothing has to be invalidated, hence nothing can be forgotten to be. Neither user ids nor
histories are kept.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from pydantic_core import to_json

from service.engine.contract import Flops, ItemFilter, ModelInfo, Price, Query, Ranking

_KEY_BYTES = 16
# Estimates of what CPython needs, rounded up: an entry with its ranking, an item, an odd id.
_ENTRY_BYTES, _ITEM_BYTES, _ID_BYTES = 1024, 128, 128


@dataclass(slots=True)
class _Entry:
    ranking: Ranking
    until: float
    size_bytes: int


class ResultCache:
    """The newest rankings of this process; for one thread.

    An entry lives `ttl_seconds`; when `max_bytes` (estimated) are exceeded, the entries that were
    not asked for longest go first. `clock` returns seconds that never go back.
    """

    def __init__(
        self, *, ttl_seconds: float, max_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ttl_seconds = ttl_seconds
        self._max_bytes = max_bytes
        self._clock = clock
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._size_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size_bytes(self) -> int:
        """What the entries take, estimated; never above `max_bytes`."""
        return self._size_bytes

    def get(self, key: bytes) -> Ranking | None:
        """Return the ranking that was put under `key`, with source `cache` and no FLOPs."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if self._clock() >= entry.until:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry.ranking

    def put(self, key: bytes, ranking: Ranking) -> None:
        """Keep the ranking of a model; others cost nothing to make and are not kept."""
        if ranking.source != "model":
            return
        size = (
            _ENTRY_BYTES
            + _ITEM_BYTES * len(ranking.items)
            + sum(_ID_BYTES + 4 * len(external_id) for external_id in ranking.missing_items)
        )
        if size > self._max_bytes:
            return
        if key in self._entries:
            self._drop(key)
        kept = replace(ranking, source="cache", flops=Flops(), flops_full=Flops(), reason="cache")
        self._entries[key] = _Entry(kept, self._clock() + self._ttl_seconds, size)
        self._size_bytes += size
        while self._size_bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: bytes) -> None:
        self._size_bytes -= self._entries.pop(key).size_bytes


def result_key(info: ModelInfo, price: Price, query: Query) -> bytes:
    """Return the key of the answer that this model gives to this query at this base price."""
    compute = query.compute
    parts = (
        (info.version, info.digest, info.price if price.base is None else price.base),
        query.history,
        (query.k, query.exclude_seen, query.exclude_items, query.candidates),
        (_clauses(query.filter), query.strict_filter, query.blocked.digest),
        (compute.mode, compute.submodel, compute.max_ratio),
    )
    return hashlib.blake2b(to_json(parts), digest_size=_KEY_BYTES).digest()


def _clauses(wanted: ItemFilter | None) -> tuple[object, ...] | None:
    if wanted is None:
        return None
    return tuple(
        tuple((clause.field, clause.any_of) for clause in part)
        for part in (wanted.must, wanted.must_not)
    )

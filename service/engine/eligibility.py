"""Which rows a query may get: exclusions, candidates and attribute filters, before top-k."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from models.catalog import Catalog
from service.engine.contract import FilterClause, ItemFilter, UnknownFieldError

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]

_CACHED_MASKS = 64


class AttributeIndex:
    """field -> value -> rows of the catalog. Values are compared as text; lists by membership.

    Booleans read as `true` and `false`. Safe to call from the event loop and the worker at once.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._size = len(catalog) + 1
        rows: defaultdict[str, defaultdict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        counted: set[str] = set()
        for row, attributes in enumerate(catalog.attributes or (), start=1):
            for field, value in attributes.items():
                if isinstance(value, int | float):
                    counted.add(field)
                for text in _texts(value):
                    rows[field][text].append(row)
        self._rows: dict[str, dict[str, Rows]] = {
            field: {text: np.asarray(found, dtype=np.int64) for text, found in values.items()}
            for field, values in rows.items()
        }
        self._counted = frozenset(counted)
        self._masks: OrderedDict[ItemFilter, Mask] = OrderedDict()
        self._lock = Lock()

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that at least one item has, sorted."""
        return tuple(sorted(self._rows))

    def texts(self, field: str) -> Mapping[str, Rows]:
        """Return the rows of each text of this field; nothing where it holds numbers, booleans."""
        return {} if field in self._counted else self._rows.get(field, {})

    def check(self, item_filter: ItemFilter) -> None:
        """Return when every field is known; UnknownFieldError names the first that is not."""
        for clause in (*item_filter.must, *item_filter.must_not):
            if clause.field not in self._rows:
                known = ", ".join(self.fields) or "none"
                raise UnknownFieldError(
                    f"no item has the attribute {clause.field!r}; filterable are: {known}"
                )

    def mask(self, item_filter: ItemFilter) -> Mask:
        """Return a read-only bool per row, True where the filter holds.

        An unknown field holds for no item: nothing passes `must`, everything `must_not`.
        """
        with self._lock:
            mask = self._masks.pop(item_filter, None)
            if mask is None:
                mask = self._build(item_filter)
            self._masks[item_filter] = mask
            if len(self._masks) > _CACHED_MASKS:
                self._masks.popitem(last=False)
        return mask

    def _build(self, item_filter: ItemFilter) -> Mask:
        mask = np.ones(self._size, dtype=np.bool_)
        mask[0] = False
        for clause in item_filter.must:
            mask &= self._clause(clause)
        for clause in item_filter.must_not:
            mask &= ~self._clause(clause)
        mask.setflags(write=False)
        return mask

    def _clause(self, clause: FilterClause) -> Mask:
        mask = np.zeros(self._size, dtype=np.bool_)
        values = self._rows.get(clause.field, {})
        for text in clause.any_of:
            rows = values.get(text)
            if rows is not None:
                mask[rows] = True
        return mask


def _texts(value: object) -> Iterable[str]:
    if isinstance(value, bool):
        return ("true" if value else "false",)
    if isinstance(value, str | int | float):
        return (str(value),)
    if isinstance(value, list | tuple):
        return [text for element in value for text in _texts(element)]
    return ()


class PopularRanking:
    """Rows by popularity: the checkpoint's recency-weighted list, then the catalog's own order.

    Safe to call from the event loop and the worker at once. Without a filter a call costs as
    much as k, the exclusions and the candidates, whatever the size of the catalog; a filter may
    cost a pass over it.
    """

    def __init__(self, catalog: Catalog, popular: Iterable[tuple[str, float]]) -> None:
        listed: list[int] = []
        scores: list[float] = []
        for external_id, score in popular:
            row = catalog.item_id(external_id)
            if row is not None:
                listed.append(row)
                scores.append(score)
        known = np.zeros(len(catalog) + 1, dtype=np.bool_)
        known[listed] = True
        known[0] = True
        rest = np.flatnonzero(~known)
        self._rows: Rows = np.concatenate([np.asarray(listed, dtype=np.int64), rest])
        self._places = np.zeros(len(catalog) + 1, dtype=np.int64)
        self._places[self._rows] = np.arange(len(self._rows))
        self._scores = np.concatenate([np.asarray(scores), np.zeros(len(rest))])

    def popularity(self) -> NDArray[np.float64]:
        """Return every row's score, 0 for those not on the list; row 0 is padding."""
        found = np.zeros(len(self._places))
        found[self._rows] = self._scores
        return found

    def top(
        self, k: int, *, excluded: set[int], allowed: Mask | None, candidates: set[int] | None
    ) -> list[tuple[int, float]]:
        """Return the k most popular eligible (row, score), best first; fewer when fewer exist."""
        found: list[tuple[int, float]] = []
        for places in self._in_order(k + len(excluded), candidates):
            if allowed is not None:
                places = places[allowed[self._rows[places]]]
            for row, score in zip(
                self._rows[places].tolist(), self._scores[places].tolist(), strict=True
            ):
                if row not in excluded:
                    found.append((row, score))
                    if len(found) == k:
                        return found
        return found

    def _in_order(self, first: int, candidates: set[int] | None) -> Iterator[Rows]:
        """Yield places in the ranking, best first: the candidates', or all in growing pieces."""
        if candidates is not None:
            rows = np.fromiter(candidates, dtype=np.int64, count=len(candidates))
            yield np.sort(self._places[rows])
            return
        start, size = 0, max(first, 64)
        while start < len(self._rows):
            yield np.arange(start, min(start + size, len(self._rows)))
            start, size = start + size, min(size * 4, 2**16)

"""Popular items for somebody: popularity within categories, these weighted as in the history.

With P(i) an item's popularity, w(c|i) its categories in equal parts, and P(c) the popularity of a
category's items together, the mixture P(i|history) = P(i) * sum_c w(c|i) * P(c|history) / P(c)
ranks items by popularity inside the categories that the history tells of. P(c|history) is the
history's share of the category, drawn towards P(c) as if `PRIOR` items more had been seen.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.catalog import Attributes, Catalog
from service.engine.eligibility import PopularRanking, Rows

Floats = NDArray[np.float64]

PRIOR = 20.0
NEWEST = 20  # items of a history that count
# What most items have and several share is a category; a title is not.
_LEAST_COVERAGE = 0.5
_LEAST_SHARED = 4
_NONE: Rows = np.empty(0, dtype=np.int64)


class Categories:
    """The categories of a catalog's items: texts, or lists of texts, that several items share.

    `fields` names the attributes that were found to be categories; without any, or without a
    history, nothing is preferred. Safe to call from the event loop and the worker at once.
    """

    def __init__(self, catalog: Catalog, ranking: PopularRanking) -> None:
        rows = catalog.attributes or ()
        self.fields = _shared_fields(rows)
        numbers: dict[tuple[str, str], int] = {}
        flat: list[int] = []
        lengths = np.zeros(len(catalog) + 1, dtype=np.int64)  # row 0 is padding
        for place, row in enumerate(rows, start=1):
            before = len(flat)
            flat.extend(
                numbers.setdefault((field, text), len(numbers))
                for field in self.fields
                for text in _texts(row.get(field))
            )
            lengths[place] = len(flat) - before
        self._stops: Rows = np.cumsum(lengths)
        self._starts: Rows = self._stops - lengths
        self._numbers: Rows = np.array(flat, dtype=np.int64)
        mass = np.repeat(ranking.popularity() / np.maximum(lengths, 1), lengths)
        sums: Floats = np.bincount(self._numbers, mass, len(numbers)).astype(np.float64)
        total = float(sums.sum())
        # A category that nobody was met in lately is as unlikely as the rarest that was.
        least = float(sums[sums > 0].min(initial=total or 1.0))
        self._shares: Floats = np.maximum(sums, least) / max(total, least)

    def lift(self, history: Rows) -> Floats | None:
        """Return, by category, how much likelier the history makes it; None when it tells none."""
        owners, numbers = self._of(history[-NEWEST:])
        if not len(numbers):
            return None
        seen = np.bincount(numbers, weights=self._weights_of(owners), minlength=len(self._shares))
        told = (seen + PRIOR * self._shares) / (seen.sum() + PRIOR)
        lifted: Floats = told / self._shares
        return lifted

    def prefer(
        self, found: list[tuple[int, float]], history: Rows, k: int
    ) -> list[tuple[int, float]]:
        """Return the k best of the (row, popularity) by the mixture; ties keep their order."""
        lift = self.lift(history)
        if lift is None:
            return found[:k]
        rows = np.array([row for row, _ in found], dtype=np.int64)
        scores = np.array([score for _, score in found])
        owners, numbers = self._of(rows)
        places = np.repeat(np.arange(len(rows)), self._stops[rows] - self._starts[rows])
        factors = np.bincount(
            places, weights=self._weights_of(owners) * lift[numbers], minlength=len(rows)
        )
        # What has no category is as likely as ever.
        factors[self._stops[rows] == self._starts[rows]] = 1.0
        mixed = scores * factors
        order = np.argsort(-mixed, kind="stable")[:k]
        return list(zip(rows[order].tolist(), mixed[order].tolist(), strict=True))

    def _of(self, rows: Rows) -> tuple[Rows, Rows]:
        """Return (owner, category) for every category of every row, in order."""
        lengths = self._stops[rows] - self._starts[rows]
        owners = np.repeat(rows, lengths)
        before = np.repeat(np.cumsum(lengths) - lengths, lengths)
        places = np.repeat(self._starts[rows], lengths) + np.arange(len(owners)) - before
        return owners, self._numbers[places] if len(places) else _NONE

    def _weights_of(self, owners: Rows) -> Floats:
        weights: Floats = 1 / (self._stops[owners] - self._starts[owners])
        return weights


def _texts(value: object) -> tuple[str, ...]:
    """Return the text or the texts; numbers and booleans are no categories."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list | tuple):
        return tuple(dict.fromkeys(text for text in value if isinstance(text, str)))
    return ()


def _shared_fields(rows: Sequence[Attributes]) -> tuple[str, ...]:
    owners: Counter[str] = Counter()
    uses: Counter[str] = Counter()
    values: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        for field, value in row.items():
            if found := _texts(value):
                owners[field] += 1
                uses[field] += len(found)
                values[field].update(found)
    return tuple(
        sorted(
            field
            for field, distinct in values.items()
            if len(distinct) > 1
            and owners[field] >= _LEAST_COVERAGE * len(rows)
            and uses[field] >= _LEAST_SHARED * len(distinct)
        )
    )

"""Popular items for somebody: popularity within categories, these weighted as in the history.

With P(i) an item's popularity, w(c|i) its categories in equal parts, and P(c) the popularity of a
category's items together, the mixture P(i|history) = P(i) * sum_c w(c|i) * P(c|history) / P(c)
ranks items by popularity inside the categories that the history tells of. P(c|history) is the
history's share of the category, drawn towards P(c) as if `PRIOR` items more had been seen.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.engine.eligibility import AttributeIndex, PopularRanking, Rows

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

    def __init__(self, attributes: AttributeIndex, ranking: PopularRanking) -> None:
        popularity = ranking.popularity()
        self.fields: tuple[str, ...] = ()
        owners: list[Rows] = []
        for field in attributes.fields:
            values = list(attributes.texts(field).values())
            if _shared(values, len(popularity) - 1):
                self.fields += (field,)
                owners += [np.unique(rows) for rows in values]
        numbers = np.repeat(np.arange(len(owners)), [len(rows) for rows in owners])
        flat = np.concatenate([_NONE, *owners])
        order = np.argsort(flat, kind="stable")
        lengths = np.bincount(flat, minlength=len(popularity))
        self._stops: Rows = np.cumsum(lengths)
        self._starts: Rows = self._stops - lengths
        self._numbers: Rows = numbers[order]
        mass = np.repeat(popularity / np.maximum(lengths, 1), lengths)
        sums: Floats = np.bincount(self._numbers, mass, len(owners)).astype(np.float64)
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


def _shared(values: Sequence[Rows], items: int) -> bool:
    """Return whether most items have the field and its values are few enough to be shared."""
    uses = sum(map(len, values))
    return (
        len(values) > 1
        and uses >= _LEAST_SHARED * len(values)
        and len(np.unique(np.concatenate(values))) >= _LEAST_COVERAGE * items
    )

"""What answers without a network: popular items, under all that the query asks for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from models.catalog import Catalog
from service.engine.categories import Categories
from service.engine.contract import ItemFilter
from service.engine.eligibility import AttributeIndex, Mask, PopularRanking
from service.engine.prepared import Prepared

# So many of the most popular eligible items are ordered by the history's categories, and at
# least so many times k: bounded, as this also runs on the event loop.
_LEAST_POOL = 200
_POOL_PER_K = 4
# Below every score that a model gives.
_FILLED = -1e9

Scored = tuple[int, float]


class Fallback:
    """Popular rows of one catalog. Safe to call from the event loop and the worker at once."""

    def __init__(
        self, catalog: Catalog, popular: Iterable[tuple[str, float]], attributes: AttributeIndex
    ) -> None:
        self._attributes = attributes
        self._popular = PopularRanking(catalog, popular)
        self._categories = Categories(attributes, self._popular)

    def top(self, one: Prepared) -> list[Scored]:
        """Return at most k eligible (row, score), best first.

        Known items of the history make their categories preferred. With `strict_filter` false,
        what is missing is filled up.
        """
        k = one.query.k
        found = self._best(one, k, one.open_rows(), set())
        return found + self.fill(one, [row for row, _ in found], k - len(found))

    def fill(self, one: Prepared, rows: Sequence[int], missing: int) -> list[Scored]:
        """Return at most `missing` more rows, where the query lets them be filled up.

        They may miss what the filter's `must` asks for. Its `must_not`, and all else, holds.
        """
        wanted = one.query.filter
        if missing <= 0 or wanted is None or one.query.strict_filter:
            return []
        allowed = None if one.blocked is None else one.blocked.open_V
        if wanted.must_not:
            passing = self._attributes.mask(ItemFilter(must_not=wanted.must_not))
            allowed = passing if allowed is None else allowed & passing
        return [(row, _FILLED) for row, _ in self._best(one, missing, allowed, set(rows))]

    def _best(self, one: Prepared, k: int, allowed: Mask | None, taken: set[int]) -> list[Scored]:
        preferring = one.length > 0 and self._categories.fields
        found = self._popular.top(
            max(_LEAST_POOL, _POOL_PER_K * k) if preferring else k,
            excluded=one.excluded_set() | taken,
            allowed=allowed,
            candidates=one.candidate_set(),
        )
        return self._categories.prefer(found, one.history, k) if preferring else found

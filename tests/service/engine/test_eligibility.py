"""Popular items: exactly the most popular eligible ones, whatever narrows the choice."""

from __future__ import annotations

import random

import numpy as np
import pytest

from models.catalog import Catalog
from service.engine.eligibility import PopularRanking

ITEMS = 500
CATALOG = Catalog(f"i{row}" for row in range(1, ITEMS + 1))
# The list is shorter than the catalog and in an order of its own.
LISTED = random.Random(1).sample(range(1, ITEMS + 1), 60)
ORDER = LISTED + [row for row in range(1, ITEMS + 1) if row not in set(LISTED)]
RANKING = PopularRanking(
    CATALOG, [(f"i{row}", 1.0 - place / 100) for place, row in enumerate(LISTED)]
)


@pytest.mark.parametrize("seed", range(60))
def test_top_is_the_whole_order_narrowed_and_cut(seed: int) -> None:
    generator = random.Random(seed)
    k = generator.choice((1, 10, 100, ITEMS))
    excluded = set(generator.sample(range(1, ITEMS + 1), generator.choice((0, 5, 300))))
    allowed = None
    if generator.random() < 0.5:
        allowed = np.zeros(ITEMS + 1, dtype=np.bool_)
        allowed[generator.sample(range(1, ITEMS + 1), generator.choice((0, 3, 250)))] = True
    candidates = None
    if generator.random() < 0.5:
        candidates = set(generator.sample(range(1, ITEMS + 1), generator.choice((0, 4, 200))))
    expected = [
        row
        for row in ORDER
        if row not in excluded
        and (allowed is None or allowed[row])
        and (candidates is None or row in candidates)
    ][:k]
    found = RANKING.top(k, excluded=excluded, allowed=allowed, candidates=candidates)
    assert [row for row, _ in found] == expected
    scores = [score for _, score in found]
    assert scores == sorted(scores, reverse=True)

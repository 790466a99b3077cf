"""Popular items for somebody: the categories of what they saw come first, nothing else changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.catalog import Catalog
from service.engine.categories import PRIOR, Categories
from service.engine.eligibility import AttributeIndex, PopularRanking

GENRES = ("drama", "noir", "comedy", "space")


def catalog(count: int = 40, **more: Any) -> Catalog:
    return Catalog(
        [f"i{row}" for row in range(1, count + 1)],
        [
            {"title": f"Title {row}", "year": 1990 + row % 3, "genre": GENRES[row % 4], **more}
            for row in range(1, count + 1)
        ],
    )


def made(items: Catalog, popular: list[tuple[str, float]] | None = None) -> Categories:
    listed = popular or [(f"i{row}", 1 / row) for row in range(1, len(items) + 1)]
    return Categories(AttributeIndex(items), PopularRanking(items, listed))


def rows(*numbers: int) -> Any:
    return np.array(numbers, dtype=np.int64)


def test_what_several_items_share_is_a_category_and_a_title_is_not() -> None:
    assert made(catalog()).fields == ("genre",)
    assert made(catalog(tags=["a", "b"])).fields == ("genre", "tags")
    assert made(catalog(flag=True, brand="only one")).fields == ("genre",)
    assert made(Catalog(["a", "b"])).fields == ()
    rare = Catalog([f"i{n}" for n in range(20)], [{"genre": "x" if n else "y"} for n in range(20)])
    assert made(rare).fields == ("genre",)
    few = Catalog(
        [f"i{n}" for n in range(20)], [{"genre": str(n % 2)} if n < 9 else {} for n in range(20)]
    )
    assert made(few).fields == (), "under half of the items have it"


def test_the_mixture_is_what_it_says() -> None:
    categories = made(catalog())
    found = [(row, 1 / row) for row in range(1, 41)]
    history = rows(3, 7, 11, 15)  # all of one genre: row % 4 == 3
    total = sum(score for _, score in found)
    shares = {
        genre: sum(score for row, score in found if row % 4 == genre) / total for genre in range(4)
    }
    told = {
        genre: ((4 if genre == 3 else 0) + PRIOR * share) / (4 + PRIOR)
        for genre, share in shares.items()
    }
    expected = {row: score * told[row % 4] / shares[row % 4] for row, score in found}
    best = categories.prefer(found, history, 40)
    assert dict(best) == pytest.approx(expected)
    assert [score for _, score in best] == pytest.approx(sorted(expected.values(), reverse=True))
    assert [row for row, _ in best if row % 4 == 3] == list(range(3, 41, 4)), "by popularity inside"


def test_where_nothing_is_told_popularity_stands() -> None:
    found = [(row, 1 / row) for row in range(1, 41)]
    assert made(catalog()).prefer(found, rows(), 5) == found[:5]
    assert made(Catalog([f"i{row}" for row in range(1, 41)])).prefer(found, rows(3), 5) == found[:5]
    assert made(catalog()).prefer([], rows(3), 5) == []


def test_items_in_several_categories_count_for_each_in_part_and_without_any_as_ever() -> None:
    items = Catalog(
        [f"i{row}" for row in range(1, 13)],
        [
            {"genre": ["a", "b"]} if row == 1 else {"genre": ["a" if row % 2 else "b"]}
            for row in range(1, 12)
        ]
        + [{}],
    )
    categories = made(items, [(f"i{row}", 1.0) for row in range(1, 13)])
    best = dict(categories.prefer([(row, 1.0) for row in range(1, 13)], rows(3, 5, 7), 12))
    assert best[12] == 1.0
    assert best[1] == pytest.approx((best[3] + best[2]) / 2)
    assert best[3] > 1.0 > best[2]


def test_a_category_without_any_popularity_gives_finite_numbers() -> None:
    categories = made(catalog(), [("i1", 1.0)])
    best = categories.prefer([(1, 1.0), (2, 0.0), (3, 0.0)], rows(2, 3), 3)
    assert all(np.isfinite(score) for _, score in best)
    assert best[0][0] == 1, "what nobody took stays behind what somebody did"

"""From query vectors to the best rows: a product over the catalog, or a search of its index.

Both take queries of any submodels that share an embedding width, memory and eligibility included.
"""

# B batch, E embedding width, W window, V catalog rows with padding

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
import torch

from models.arrays import Ids
from models.ranker import Ranker
from models.search.contract import Wanted
from models.search.search import CatalogSearch
from models.search.two_level import TwoLevelSearch
from service.engine.prepared import Prepared, keep_eligible
from service.engine.selection import Floats, Selector

log = logging.getLogger(__name__)

Kind = Literal["product", "index"]


@dataclass(frozen=True, slots=True)
class Scored:
    """The best rows of one query, best first: of equal scores the smaller row."""

    rows: list[int]
    scores: list[float]
    flops: int | None = None
    """What scoring spent; None when it was what the submodel's plan says."""


class Scorer(Protocol):
    """Scores and picks. For one thread at a time."""

    kind: Kind

    def best(self, batch: Sequence[Prepared], query_BE: Floats, recent_BW: Ids) -> list[Scored]:
        """Return the k best eligible rows of each query; FloatingPointError when not a number.

        `recent_BW` int64 is what the memory reads, newest item first, 0 where there are fewer.
        """
        ...


class ProductScorer:
    """One product over the whole table, and a pass over its scores."""

    kind: Kind = "product"

    def __init__(self, ranker: Ranker) -> None:
        self._ranker = ranker
        self._selector = Selector()

    def best(self, batch: Sequence[Prepared], query_BE: Floats, recent_BW: Ids) -> list[Scored]:
        """Return the k best eligible rows of each query; see `Scorer`."""
        scores_BV = self._ranker.scores(query_BE, _gains(self._ranker, batch), recent_BW)
        keep_eligible(scores_BV, batch)
        closed = [one.closed_rows() for one in batch]
        found = self._selector.best(scores_BV, closed, [one.query.k for one in batch])
        return [Scored(rows, scores) for rows, scores in found]


class SearchScorer:
    """A search of the catalog's index: exact, and no buffer of the catalog's size."""

    kind: Kind = "index"

    def __init__(self, ranker: Ranker, search: CatalogSearch | TwoLevelSearch) -> None:
        self._ranker = ranker
        self._search = search

    def best(self, batch: Sequence[Prepared], query_BE: Floats, recent_BW: Ids) -> list[Scored]:
        """Return the k best eligible rows of each query; see `Scorer`."""
        if not np.isfinite(query_BE).all():
            raise FloatingPointError("a score is not a number")
        wanted, memory_flops = self._wanted(batch, recent_BW)
        found = self._search.top(torch.from_numpy(query_BE), wanted)
        return [
            Scored(one.rows, one.scores, 2 * one.multiply_adds + flops)
            for one, flops in zip(found, memory_flops, strict=True)
        ]

    def _wanted(self, batch: Sequence[Prepared], recent_BW: Ids) -> tuple[list[Wanted], list[int]]:
        """Return what to search for, and the FLOPs that reading the memory took."""
        if not self._ranker.window:
            return [_plain(one) for one in batch], [0] * len(batch)
        additions = self._ranker.additions(recent_BW, _gains(self._ranker, batch))
        wanted = [
            replace(_plain(one), memory_rows_N=added.rows_R, memory_N=added.values_R)
            for one, added in zip(batch, additions, strict=True)
        ]
        return wanted, [2 * added.entries for added in additions]


def choose_scorer(ranker: Ranker, *, index_from: int) -> Scorer:
    """Return a search for catalogs of `index_from` rows and more, else a product.

    Where the search cannot be built or run here, a warning is logged and the product serves:
    slower, and right.
    """
    if len(ranker.table) < index_from:
        return ProductScorer(ranker)
    widths = sorted({one.emb_width for one in ranker.served})
    try:
        search = _search(ranker, widths, index_from)
        search.top(torch.zeros(1, widths[-1]), [Wanted(k=1)])
    except Exception:
        log.warning(
            "the index over %d rows cannot be used; every request reads the whole table, which is"
            " slower",
            len(ranker.table),
            exc_info=True,
        )
        return ProductScorer(ranker)
    return SearchScorer(ranker, search)


def _search(
    ranker: Ranker, widths: Sequence[int], index_from: int
) -> CatalogSearch | TwoLevelSearch:
    table, bias_V = ranker.table, ranker.item_bias_V
    if not ranker.tokens:
        return CatalogSearch(table, bias_V, widths, index_from=index_from)
    return TwoLevelSearch(
        table, bias_V, ranker.tokens[table.emb_width], widths, index_from=index_from
    )


def _plain(one: Prepared) -> Wanted:
    """Return what to search for, memory left out."""
    return Wanted(
        k=one.query.k,
        excluded=one.excluded,
        candidates=one.candidates,
        allowed_V=one.open_rows(),
    )


def _gains(ranker: Ranker, batch: Sequence[Prepared]) -> Floats:
    gains_B: Floats = ranker.gains_S[[one.place for one in batch]]
    return gains_B

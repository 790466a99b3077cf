"""A query in rows of one catalog: what the network reads and which rows may answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.catalog import Catalog
from service.engine.blocked import BlockedIndex, BlockedRows
from service.engine.contract import Query
from service.engine.eligibility import AttributeIndex, Mask, Rows
from service.engine.selection import Floats

_NO_ROWS: Rows = np.empty(0, dtype=np.int64)


@dataclass(slots=True)
class Prepared:
    """A query in rows; its bucket, submodel and the reason for it are set by routing."""

    query: Query
    history: Rows
    """Known items, oldest first; more than the network reads, perhaps."""
    length: int
    """How many of them the network reads."""
    missing: tuple[str, ...]
    excluded: Rows
    """Distinctness is not promised."""
    candidates: Rows | None
    """Ascending and distinct."""
    allowed: Mask | None
    """Rows that pass the filter."""
    blocked: BlockedRows | None
    bucket: int = 0
    place: int = 0
    reason: str = "router"

    def excluded_set(self) -> set[int]:
        """Return the excluded rows as a set."""
        return set(self.excluded.tolist())

    def candidate_set(self) -> set[int] | None:
        """Return the candidates as a set; None when every row is one."""
        return None if self.candidates is None else set(self.candidates.tolist())

    def closed_rows(self) -> Rows:
        """Return the rows that the query or the blocklist excludes, perhaps several times."""
        if self.blocked is None:
            return self.excluded
        return np.concatenate((self.excluded, self.blocked.rows))

    def open_rows(self) -> Mask | None:
        """Return which rows blocklist and filter leave; None when all."""
        if self.blocked is None or self.allowed is None:
            return self.allowed if self.blocked is None else self.blocked.open_V
        return self.allowed & self.blocked.open_V


def prepare(
    query: Query,
    catalog: Catalog,
    attributes: AttributeIndex,
    blocked: BlockedIndex,
    max_length: int,
) -> Prepared:
    """Return the query in rows; unknown external ids are dropped and named in `missing`."""
    known, missing = catalog.encode(query.history)
    history = np.array(known, dtype=np.int64)
    excluded = history if query.exclude_seen else _NO_ROWS
    candidates: Rows | None = None
    if query.candidates is not None:
        known, unknown = catalog.encode(query.candidates)
        candidates = np.unique(np.array(known, dtype=np.int64))
        missing += unknown
    if query.exclude_items:
        known, unknown = catalog.encode(query.exclude_items)
        excluded = np.concatenate((excluded, np.array(known, dtype=np.int64)))
        missing += unknown
    return Prepared(
        query=query,
        history=history,
        length=min(len(history), max_length),
        missing=tuple(dict.fromkeys(missing)) if missing else (),
        excluded=excluded,
        candidates=candidates,
        allowed=attributes.mask(query.filter) if query.filter is not None else None,
        blocked=blocked.rows(query.blocked),
    )


def keep_eligible(scores_BV: Floats, batch: Sequence[Prepared]) -> None:
    """Set scores to -inf, in place, whose rows are no candidates or do not pass the filter."""
    for place, one in enumerate(batch):
        if one.candidates is not None:
            kept = scores_BV[place, one.candidates]
            scores_BV[place] = -np.inf
            scores_BV[place, one.candidates] = kept
        if one.allowed is not None:
            np.copyto(scores_BV[place], -np.inf, where=~one.allowed)

"""Answers written down at training time, replayed before a checkpoint goes live; no torch here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenQuery:
    """What `submodel` answered to `history` with `exclude_seen`, as external ids, best first.

    `k` of the replay is `len(items)`; `scores` are the items' scores, falling. `items` is empty
    where the history holds the whole catalog.
    """

    history: tuple[str, ...]
    submodel: str
    items: tuple[str, ...]
    scores: tuple[float, ...]

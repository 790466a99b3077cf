"""The catalog of a training run, and the list for users nobody knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.catalog import Catalog
from training.data.errors import DataError
from training.data.interactions import Interactions

_DAY_MS = 86_400_000


def build_catalog(
    interactions: Interactions,
    attributes: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    training_mask: NDArray[np.bool_] | None = None,
) -> Catalog:
    """Return all items by falling count of training rows, ties by first appearance.

    Items met only outside the training part stand last, in order of first appearance, so that
    every target has a row; their order tells nothing about validation or test.

    Args:
        interactions: the data.
        attributes: external id -> attributes; ids that nobody met are left out. An item
            without an entry gets empty attributes.
        training_mask: (n,) true for training rows; None: all rows.

    Raises:
        DataError: a mask of another length.
    """
    counts = np.bincount(
        interactions.item_codes[_mask(interactions, training_mask)],
        minlength=interactions.num_items,
    )
    order = np.argsort(-counts, kind="stable").tolist()
    external_ids = [interactions.item_ids[code] for code in order]
    if attributes is None:
        return Catalog(external_ids)
    return Catalog(external_ids, [attributes.get(external, {}) for external in external_ids])


def popular_items(
    interactions: Interactions,
    *,
    training_mask: NDArray[np.bool_] | None = None,
    limit: int = 1000,
    half_life_days: float | None = None,
) -> list[tuple[str, float]]:
    """Return at most `limit` (external id, score), best first, ties by first appearance.

    A training row counts 2 ** (-age / half-life), its age taken at the last training row; the
    score is the item's share of the sum. The half-life defaults to a quarter of the span of the
    training rows, so that the oldest row counts a sixteenth of the newest. Where the data tells
    an order but no times, every row counts alike.

    Raises:
        DataError: `limit` below 1, a half-life of 0 or less, no training rows.
    """
    if limit < 1:
        raise DataError(f"limit is {limit}, at least 1 is needed")
    if half_life_days is not None and not half_life_days > 0:
        raise DataError(f"half_life_days is {half_life_days}, more than 0 is needed")
    mask = _mask(interactions, training_mask)
    items, times = interactions.item_codes[mask], interactions.timestamps[mask]
    if not len(items):
        raise DataError("no training rows to count popularity on")
    weights = None
    if interactions.has_times:
        span = float(times.max() - times.min())
        half_life = half_life_days * _DAY_MS if half_life_days is not None else span / 4
        if half_life > 0:
            weights = np.exp2(-(times.max() - times) / half_life)
    totals = np.bincount(items, weights=weights, minlength=interactions.num_items)
    scores = totals / totals.sum()
    order = np.argsort(-scores, kind="stable")[:limit]
    return [(interactions.item_ids[code], float(scores[code])) for code in order if scores[code]]


def _mask(interactions: Interactions, mask: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    if mask is None:
        return np.ones(len(interactions), dtype=np.bool_)
    if mask.dtype != np.bool_ or mask.shape != (len(interactions),):
        raise DataError(
            f"a training mask of {len(interactions)} booleans is needed, "
            f"got {mask.dtype} {mask.shape}"
        )
    return mask

"""From a file to a split, with progress shown: what training and evaluation both begin with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.catalog import Catalog
from training.data.attributes import read_item_attributes
from training.data.columns import ColumnNames
from training.data.interactions import Interactions, read_interactions
from training.data.split import Split, leave_one_out, temporal
from training.progress import Progress


def read(
    data: Path, columns: ColumnNames | None, *, strict: bool, progress: Progress
) -> Interactions:
    """Read the interactions, with a bar, and show what was found."""
    with progress.track(f"reading {data.name}", 100) as advance:
        shown = 0

        def report(done: int, total: int) -> None:
            nonlocal shown
            share = int(100 * done / max(1, total))
            advance(share - shown)
            shown = share

        interactions = read_interactions(data, columns, strict=strict, on_progress=report)
    progress.log(interactions.report.summary())
    return interactions


def make_split(
    interactions: Interactions,
    kind: str,
    *,
    items: Path | None = None,
    catalog: Catalog | None = None,
    known: Catalog | None = None,
) -> Split:
    """Return the split called `kind`: leave-one-out or temporal. ValueError for another kind.

    Attributes are those of the file `items`; without one, those that the catalog `known` has.
    """
    attributes: Mapping[str, Mapping[str, Any]] | None = None
    if items is not None:
        attributes = read_item_attributes(items)
    elif known is not None and known.attributes is not None:
        attributes = dict(zip(known.external_ids, known.attributes, strict=True))
    if kind == "leave-one-out":
        return leave_one_out(interactions, catalog=catalog, attributes=attributes)
    if kind == "temporal":
        return temporal(interactions, catalog=catalog, attributes=attributes)
    raise ValueError(f"split {kind!r} is unknown; known are leave-one-out, temporal")

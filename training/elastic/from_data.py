"""Validation cases for an elastic checkpoint, from a file of interactions."""

from __future__ import annotations

from pathlib import Path

from models.checkpoint.contents import Checkpoint
from training.data.columns import ColumnNames
from training.data.reading import make_split, read
from training.data.split import Split
from training.elastic.measure import MOST_CASES
from training.elastic.probe import Probe
from training.elastic.specialize import probe_of
from training.fit.cases import sample_cases
from training.progress import Progress


def split_of(
    checkpoint: Checkpoint,
    data: Path,
    *,
    columns: ColumnNames | None,
    strict: bool,
    progress: Progress,
) -> Split:
    """Return the file's split, of the kind the checkpoint was trained on, in its catalog's rows.

    DataError for bad data, ValueError for a checkpoint that does not say how it was split.
    """
    kind = str(checkpoint.manifest.training.get("split", "")).partition(":")[0]
    interactions = read(data, columns, strict=strict, progress=progress)
    parts = make_split(interactions, kind, catalog=checkpoint.catalog)
    if parts.left_out:
        progress.log(f"{parts.left_out:,} rows or cases left out: not in the catalog")
    return parts


def validation_probe(
    checkpoint: Checkpoint,
    data: Path,
    *,
    columns: ColumnNames | None,
    strict: bool,
    seed: int,
    progress: Progress,
    most: int = MOST_CASES,
) -> Probe:
    """Return a probe on up to `most` validation cases of the file; the test part is not opened."""
    parts = split_of(checkpoint, data, columns=columns, strict=strict, progress=progress)
    if not len(parts.validation):
        raise ValueError("no validation case has a target in the catalog; give the training data")
    return probe_of(checkpoint, sample_cases(parts.validation, most, seed))

"""Evaluate a published checkpoint on a file of interactions."""

from __future__ import annotations

from pathlib import Path

from models.checkpoint.contents import Checkpoint
from models.config import Submodel
from models.ranker import load_ranker
from training.data.columns import ColumnNames
from training.data.reading import make_split, read
from training.evaluate.evaluation import Evaluation, evaluate
from training.evaluate.metrics import ndcg_at
from training.evaluate.quality import ranks_by_submodel
from training.progress import Progress


def evaluate_checkpoint(
    checkpoint: Checkpoint,
    data: Path,
    *,
    columns: ColumnNames | None,
    strict: bool,
    split: str,
    price: float | None,
    budget: float | None,
    seed: int,
    progress: Progress,
) -> Evaluation:
    """Return the table for the file's test part, ids resolved by the checkpoint's catalog.

    The price is the given one, else the one the stored curve gives for `budget`, else the
    checkpoint's. ValueError for a budget below the curve; DataError for bad data.
    """
    manifest = checkpoint.manifest
    if price is None:
        price = manifest.router.price if budget is None else curve_price(checkpoint, budget)
    interactions = read(data, columns, strict=strict, progress=progress)
    parts = make_split(interactions, split, catalog=checkpoint.catalog)
    if parts.left_out:
        progress.log(f"{parts.left_out:,} rows or cases left out: not in the catalog")
    served = [Submodel.parse(entry.name) for entry in manifest.submodels]
    ranker = load_ranker(
        checkpoint.config, checkpoint.tensors, served, router_hidden=manifest.router.hidden
    )
    exclude_seen = not manifest.repeats
    validation_US = ranks_by_submodel(
        ranker, parts.validation, exclude_seen=exclude_seen, progress=progress
    )
    return evaluate(
        ranker,
        parts,
        parts.open_test(),
        price=price,
        validation_ndcg_S=ndcg_at(validation_US, 10).mean(0),
        exclude_seen=exclude_seen,
        seed=seed,
        progress=progress,
    )


def curve_price(checkpoint: Checkpoint, budget: float) -> float:
    """Return the least price on the stored curve whose cost is within `budget`.

    ValueError when the curve does not reach so low; the message names its least budget.
    """
    curve = checkpoint.manifest.router.price_curve
    within = [point for point in curve if point.flops_ratio <= budget]
    if not within:
        least = min((point.flops_ratio for point in curve), default=1.0)
        raise ValueError(f"a budget of {budget:g} is below the least, {least:.3f}; raise it")
    return min(within, key=lambda point: point.price).price

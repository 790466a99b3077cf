"""Evaluate a published checkpoint on a file of interactions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.checkpoint.contents import Checkpoint
from models.config import Submodel
from models.ranker import load_ranker
from training.data.columns import ColumnNames
from training.data.reading import make_split, read
from training.evaluate.beside import contend
from training.evaluate.evaluation import Evaluation, evaluate
from training.evaluate.metrics import ndcg_at
from training.evaluate.price_points import spread_prices
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
    prices: Sequence[float] | None = None,
    seed: int,
    progress: Progress,
    beside: Sequence[tuple[str, Checkpoint]] = (),
) -> Evaluation:
    """Return the table for the file's test part, ids resolved by the checkpoint's catalog.

    The price is the given one, else the one the stored curve gives for `budget`, else the
    checkpoint's. `prices` are measured besides; by default about six over the stored curve.
    `beside` are other checkpoints by the name of their row, see `beside.contend`.
    ValueError for a budget below the curve or a checkpoint of another task; DataError for bad data.
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
    cases = parts.open_test()
    contenders = [
        contend(
            name,
            other,
            interactions,
            split=split,
            against=checkpoint,
            cases=cases,
            exclude_seen=exclude_seen,
            progress=progress,
        )
        for name, other in beside
    ]
    return evaluate(
        ranker,
        parts,
        cases,
        price=price,
        prices=spread_prices(manifest.router.price_curve) if prices is None else prices,
        validation_ndcg_S=ndcg_at(validation_US, 10).mean(0),
        exclude_seen=exclude_seen,
        seed=seed,
        progress=progress,
        beside=contenders,
    )


def curve_price(checkpoint: Checkpoint, budget: float) -> float:
    """Return the price that the stored curve gives for `budget`, a share of always-full's FLOPs.

    Read between the two points around it, linearly in the logarithm of the cost; 0 for a budget
    above the curve. ValueError when it does not reach so low; the message names the least.
    """
    curve = sorted(checkpoint.manifest.router.price_curve, key=lambda point: point.price)
    if not curve:
        raise ValueError("the checkpoint has no price curve; give --price")
    if budget < curve[-1].flops_ratio:
        raise ValueError(
            f"a budget of {budget:g} is below the least, {curve[-1].flops_ratio:.4f}; raise it"
        )
    if budget >= curve[0].flops_ratio:
        return curve[0].price
    costs = np.log([point.flops_ratio for point in reversed(curve)])
    prices = [point.price for point in reversed(curve)]
    return float(np.interp(np.log(budget), costs, prices))

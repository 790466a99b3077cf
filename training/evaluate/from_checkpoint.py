"""Evaluate a published checkpoint on a file of interactions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.checkpoint.contents import Checkpoint
from models.checkpoint.ranker import ranker_of
from models.ranker import Ranker
from training.data.columns import ColumnNames
from training.data.reading import make_split, read
from training.data.split import Split
from training.evaluate.beside import contend, same_cases
from training.evaluate.evaluation import Evaluation, evaluate, floors
from training.evaluate.lines import Line
from training.evaluate.measurement import Measurement
from training.evaluate.metrics import ndcg_at
from training.evaluate.pooled import Pooled, pool
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
    ranker = ranker_of(checkpoint)
    exclude_seen = not manifest.repeats
    validation_ndcg_S = _validation(ranker, parts, exclude_seen=exclude_seen, progress=progress)
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
        validation_ndcg_S=validation_ndcg_S,
        exclude_seen=exclude_seen,
        seed=seed,
        progress=progress,
        beside=contenders,
    )


def evaluate_trainings(
    checkpoints: Sequence[Checkpoint],
    data: Path,
    *,
    columns: ColumnNames | None,
    strict: bool,
    split: str,
    budgets: Sequence[float] | None,
    seed: int,
    progress: Progress,
    beside: Sequence[tuple[str, Checkpoint]] = (),
) -> tuple[int, list[Pooled]]:
    """Return the number of test cases and one table per budget: means over the checkpoints.

    They are trainings of one recipe on this file. Every one is routed at the price that its own
    stored curve gives for the budget; without budgets at its own price. Rows: full, routed,
    random, static, oracle, those of `beside` and the floors. ValueError for a budget below a
    curve or checkpoints of different tasks; DataError for bad data.
    """
    first = checkpoints[0]
    interactions = read(data, columns, strict=strict, progress=progress)
    parts = make_split(interactions, split, catalog=first.catalog)
    cases = parts.open_test()
    exclude_seen = not first.manifest.repeats
    wanted: Sequence[float | None] = [None] if budgets is None else sorted(set(budgets))
    prices = [
        [
            one.manifest.router.price if budget is None else curve_price(one, budget)
            for budget in wanted
        ]
        for one in checkpoints
    ]
    lines: list[list[list[Line]]] = []  # by training, then by budget
    full_costs = []
    for checkpoint, own_prices in zip(checkpoints, prices, strict=True):
        progress.log(f"checkpoint {checkpoint.version}")
        own = same_cases(
            checkpoint,
            interactions,
            split=split,
            against=first,
            cases=cases,
            name=checkpoint.version,
        )
        ranker = ranker_of(checkpoint)
        own_parts = make_split(interactions, split, catalog=checkpoint.catalog)
        measured = Measurement(
            ranker,
            own,
            validation_ndcg_S=_validation(
                ranker, own_parts, exclude_seen=exclude_seen, progress=progress
            ),
            exclude_seen=exclude_seen,
            progress=progress,
        )
        full_costs.append(measured.full_cost)
        lines.append([])
        for price in own_prices:
            chosen_U = measured.places(price)
            lines[-1].append(
                [
                    measured.full(),
                    measured.routed(chosen_U, price),
                    measured.random(chosen_U),
                    measured.static(chosen_U),
                    measured.oracle(),
                ]
            )
    further = [
        contend(
            name,
            other,
            interactions,
            split=split,
            against=first,
            cases=cases,
            exclude_seen=exclude_seen,
            progress=progress,
        ).line()
        for name, other in beside
    ]
    further += floors(parts, cases, exclude_seen=exclude_seen, progress=progress)
    tables = [
        pool(
            [by_budget[place] for by_budget in lines],
            full_costs=full_costs,
            budget=budget,
            seed=seed,
            further=further,
        )
        for place, budget in enumerate(wanted)
    ]
    return len(cases), tables


def _validation(
    ranker: Ranker, parts: Split, *, exclude_seen: bool, progress: Progress
) -> NDArray[np.float64]:
    ranks_US = ranks_by_submodel(
        ranker, parts.validation, exclude_seen=exclude_seen, progress=progress
    )
    ndcg_S: NDArray[np.float64] = ndcg_at(ranks_US, 10).mean(0)
    return ndcg_S


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

"""Rows to be, case by case, and the table of them: means, intervals and comparisons."""

# U cases

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from training.evaluate.bootstrap import compare, interval
from training.evaluate.metrics import CUTOFFS, hr_at, mrr_at, ndcg_at
from training.evaluate.report import Row

Metrics = dict[str, NDArray[np.float64]]
"""By key, such as `ndcg@10`: one number per case, (U,) or (U, submodels)."""

_METRICS = {"ndcg": ndcg_at, "hr": hr_at, "mrr": mrr_at}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Line:
    """One system on every case.

    name, submodel, price: as in `Row`. metrics: (U,) float64 by key. flops, cpu_ms: average per
    case; None where nothing was counted. coverage: shares of the catalog by key.
    """

    name: str
    metrics: Metrics
    flops: float | None = None
    cpu_ms: float | None = None
    submodel: str | None = None
    price: float | None = None
    coverage: Mapping[str, float] = field(default_factory=dict)


def by_metric(ranks: NDArray[np.float64]) -> Metrics:
    """Return every metric of `ranks`, (U,) or (U, submodels), in the same shape."""
    return {f"{name}@{k}": metric(ranks, k) for name, metric in _METRICS.items() for k in CUTOFFS}


def tabulate(
    lines: Sequence[Line],
    *,
    full_cost: float,
    seed: int,
    each: Sequence[tuple[float, ...]] | None = None,
) -> tuple[Row, ...]:
    """Return one row per line, compared with the first line called `routed`.

    `full_cost` is what the full network spends on a case on average, `each` what NDCG@10 every
    training reached, by line, where the lines are means over several.
    """
    routed_U = next(line for line in lines if line.name == "routed").metrics["ndcg@10"]
    rows = []
    for place, line in enumerate(lines):
        own_U = line.metrics["ndcg@10"]
        here = interval(own_U, seed=seed)
        against = None if own_U is routed_U else compare(routed_U, own_U, seed=seed)
        rows.append(
            Row(
                name=line.name,
                submodel=line.submodel,
                price=line.price,
                metrics={key: float(values.mean()) for key, values in line.metrics.items()}
                | dict(line.coverage),
                ndcg_low=here.low,
                ndcg_high=here.high,
                flops=line.flops,
                flops_ratio=line.flops / full_cost if line.flops is not None else None,
                cpu_ms=float(line.cpu_ms) if line.cpu_ms is not None else None,
                difference=against.difference if against else None,
                low=against.low if against else None,
                high=against.high if against else None,
                p=against.p if against else None,
                relative=against.relative if against else None,
                relative_low=against.relative_low if against else None,
                relative_high=against.relative_high if against else None,
                each=each[place] if each is not None else None,
            )
        )
    return tuple(rows)

"""Several trainings of one recipe, other seeds say, as one: means over trainings, case by case.

The interval of a mean over trainings still speaks of other users; what each training reached
stands beside it and tells how much the trainings differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.evaluate.lines import Line, tabulate
from training.evaluate.report import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooled:
    """The table at one budget; None where every training was routed at its own price."""

    budget: float | None
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"budget": self.budget, "rows": [row.to_json() for row in self.rows]}


def pool(
    trainings: Sequence[Sequence[Line]],
    *,
    full_costs: Sequence[float],
    budget: float | None,
    seed: int,
    further: Sequence[Line] = (),
) -> Pooled:
    """Return the table of means over `trainings`, whose lines are the same systems in one order.

    `further` are lines that have no part in the trainings: other checkpoints, which are pooled by
    name among themselves, and floors. ValueError for lines of different systems.
    """
    names = [[line.name for line in lines] for lines in trainings]
    if any(one != names[0] for one in names):
        raise ValueError(f"trainings have the lines {names}; give the same systems of each")
    groups = [list(group) for group in zip(*trainings, strict=True)]
    groups += [
        [line for line in further if line.name == name]
        for name in dict.fromkeys(line.name for line in further)
    ]
    return Pooled(
        budget=budget,
        rows=tabulate(
            [_mean(group) for group in groups],
            full_cost=float(np.mean(full_costs)),
            seed=seed,
            each=[
                tuple(float(line.metrics["ndcg@10"].mean()) for line in group) for group in groups
            ],
        ),
    )


def _mean(lines: Sequence[Line]) -> Line:
    if len(lines) == 1:
        return lines[0]
    flops = [line.flops for line in lines if line.flops is not None]
    cpu_ms = [line.cpu_ms for line in lines if line.cpu_ms is not None]
    submodels = {line.submodel for line in lines}
    prices = {line.price for line in lines}
    return Line(
        name=lines[0].name,
        metrics={
            key: np.mean([line.metrics[key] for line in lines], axis=0) for key in lines[0].metrics
        },
        flops=float(np.mean(flops)) if flops else None,
        cpu_ms=float(np.mean(cpu_ms)) if cpu_ms else None,
        submodel=submodels.pop() if len(submodels) == 1 else None,
        price=prices.pop() if len(prices) == 1 else None,
        coverage={
            key: float(np.mean([line.coverage[key] for line in lines])) for key in lines[0].coverage
        },
    )

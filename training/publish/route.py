"""From a trained supernet to what is served: a router and the default price."""

# U users, S submodels

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.config import Submodel
from models.ranker import Ranker
from training.data.sequences import Sequences
from training.data.split import EvalCases
from training.evaluate.metrics import ndcg_at
from training.evaluate.quality import (
    lengths_read,
    ranks_by_submodel,
    router_features,
    totals,
)
from training.fit.fitted import Fitted
from training.fit.router_fit import RouterCases, fit_router
from training.progress import Progress
from training.publish.frontier import Asked, FrontierPoint, Held, price_for_quality
from training.publish.lessons import Lessons

_TOLERATED_LOSS = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """The ranker as it will be served, and what validation showed.

    `quality_US` is what the router says of validation cases it never saw, `points` the price curve
    on it; `ndcg_US` float64 is the NDCG@10 of each served submodel on them.
    """

    ranker: Ranker
    quality_US: NDArray[np.float32]
    points: list[FrontierPoint]
    price: float
    ndcg_US: NDArray[np.float64]

    @property
    def validation_ndcg(self) -> NDArray[np.float64]:
        """Mean NDCG@10 of each served submodel on validation, (S,) float64."""
        mean_S: NDArray[np.float64] = self.ndcg_US.mean(0)
        return mean_S


def route(
    fitted: Fitted,
    cases: EvalCases,
    *,
    served: Sequence[Submodel],
    lessons: Lessons | None = None,
    budget: float | None,
    exclude_seen: bool,
    seed: int,
    progress: Progress,
    reads_table: bool = True,
) -> Routed:
    """Fit the router on validation cases, and on the lessons of held-out users; set the price.

    An elastic table needs a router that does not read it (`reads_table`, see `fit_router`).

    With a `budget` the price meets that share of the full network's FLOPs; without one it is
    the cheapest that keeps validation NDCG@10 within half a percent, or one standard error, of the
    full network.
    ValueError when the budget lies below the cheapest submodel.
    """
    bare = Ranker(fitted.supernet, fitted.memory, None, served)
    ranks_US = ranks_by_submodel(bare, cases, exclude_seen=exclude_seen, progress=progress)
    smooth_US = 1 / np.log2(1 + ranks_US)
    extra = None
    if lessons is not None:
        extra = RouterCases(
            features=router_features(bare, lessons.cases.histories), quality=lessons.quality_NS
        )
    router = fit_router(
        router_features(bare, cases.histories),
        torch.from_numpy(smooth_US.astype(np.float32)),
        seed=seed,
        extra=extra,
        reads_table=reads_table,
    )
    ranker = Ranker(fitted.supernet, fitted.memory, router.router, served)
    progress.log(
        f"held-out users confirm {router.explained:.1%} of what differs between submodels as "
        "predictable"
    )
    ndcg_US = ndcg_at(ranks_US, 10)
    return priced(
        ranker,
        quality_US=router.quality_US.numpy(),
        ndcg_US=ndcg_US,
        cases=cases,
        budget=budget,
        tolerance=_TOLERATED_LOSS,
        progress=progress,
    )


def priced(
    ranker: Ranker,
    *,
    quality_US: NDArray[np.float32],
    ndcg_US: NDArray[np.float64],
    cases: EvalCases,
    budget: float | None,
    tolerance: float | None,
    progress: Progress,
) -> Routed:
    """Return the ranker with its price curve and default price, from cases its router never saw.

    `quality_US` is what the router says of them, `ndcg_US` what each submodel reached. What a price
    costs is that of the histories with their targets, which is what will be asked about next. The
    price meets `budget`; without one it is the cheapest that is as good as full within `tolerance`
    or one standard error, and 0 without either. ValueError when the budget cannot be met.
    """
    cost_US, full_U = totals(ranker, lengths_read(ranker, cases.histories))
    held = Held(
        quality_US=quality_US.astype(np.float64),
        ndcg_US=ndcg_US,
        cost_US=cost_US,
        full_U=full_U,
        unit=float(ranker.full_cost(ranker.config.max_length).total),
        asked=_asked(ranker, cases.followed()),
    )
    points = held.frontier()
    price = 0.0
    if budget is not None:
        price = held.price_for_budget(budget)
    elif tolerance is not None:
        price = price_for_quality(points, float(ndcg_US[:, -1].mean()), tolerance=tolerance)
    progress.log(f"serving {_names(ranker.served)} at price {price:.4g}")
    return Routed(
        ranker=ranker,
        quality_US=quality_US,
        points=points,
        price=price,
        ndcg_US=ndcg_US,
    )


@torch.inference_mode()
def _asked(ranker: Ranker, histories: Sequences) -> Asked:
    """Return what the router as it is served says of the histories, and what they cost."""
    assert ranker.router is not None, "there is a router to price"
    cost_NS, full_N = totals(ranker, lengths_read(ranker, histories))
    return Asked(
        quality_NS=ranker.router(router_features(ranker, histories)).numpy().astype(np.float64),
        cost_NS=cost_NS,
        full_N=full_N,
    )


def _names(submodels: Sequence[Submodel]) -> str:
    return ", ".join(submodel.name for submodel in submodels)

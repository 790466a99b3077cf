"""What joint training serves: the whole grid and the router as it came out, no second fit."""

from __future__ import annotations

from models.ranker import Ranker
from training.canet.choice import by_cost
from training.data.split import EvalCases
from training.evaluate.metrics import ndcg_at
from training.evaluate.quality import ranks_by_submodel, router_features
from training.fit.fitted import Fitted
from training.progress import Progress
from training.publish.route import Routed, priced


def route_joint(
    fitted: Fitted,
    cases: EvalCases,
    *,
    budget: float | None,
    exclude_seen: bool,
    progress: Progress,
) -> Routed:
    """Return the ranker of the router that was trained along; its logits are its qualities.

    The default price is 0, the largest logit, or meets `budget`; the price curve is drawn on the
    cases, which are validation. ValueError when the budget lies below the cheapest submodel.
    """
    assert fitted.router is not None, "the method trained no router"
    router = fitted.router.requires_grad_(False).eval()
    ranker = Ranker(fitted.supernet, fitted.memory, router, by_cost(fitted.supernet.config))
    ranks_US = ranks_by_submodel(ranker, cases, exclude_seen=exclude_seen, progress=progress)
    return priced(
        ranker,
        quality_US=router(router_features(ranker, cases.histories)).numpy(),
        ndcg_US=ndcg_at(ranks_US, 10),
        cases=cases,
        budget=budget,
        tolerance=None,
        progress=progress,
    )

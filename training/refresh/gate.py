"""What a new model must show before CURRENT moves to it."""

# U cases

from __future__ import annotations

from dataclasses import dataclass

import torch

from models.checkpoint.contents import Checkpoint
from models.checkpoint.ranker import ranker_of
from models.ranker import stack
from models.topk import top_rows
from training.data.errors import DataError
from training.data.interactions import Interactions
from training.data.reading import make_split
from training.evaluate.evaluation import Evaluation
from training.evaluate.metrics import ndcg_at
from training.evaluate.quality import ranks_by_submodel, routed_places
from training.progress import Progress
from training.refresh.errors import RefusedError

REASONS = ("accuracy", "savings", "size", "golden")
_SCORE_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The bounds. Shares are in 0..1 of the live model's figure; savings of the full network's.

    `tolerance` is how much lower the routed NDCG@10 may be, `max_shrink` how many fewer items
    or interactions there may be. A negative `min_saved` lets routing cost more than no routing.
    """

    tolerance: float = 0.01
    min_saved: float = 0.0
    max_saved: float = 0.995
    max_shrink: float = 0.5
    min_cases: int = 20

    def __post_init__(self) -> None:
        for name in ("tolerance", "max_shrink"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie in 0..1")
        if not self.min_saved < self.max_saved <= 1:
            raise ValueError(
                f"savings of {self.min_saved} to {self.max_saved} are no bounds; the least must "
                "be below the most, which is at most 1"
            )
        if self.min_cases < 1:
            raise ValueError(f"min_cases is {self.min_cases}; it must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """The live model's figures on the newest split; `rows` is 0 where its manifest has none.

    `ndcg_10` is over the new model's cases: a target that the live catalog lacks counts 0.
    """

    version: str
    ndcg_10: float
    cases: int
    items: int
    rows: int


def measure_live(
    live: Checkpoint, interactions: Interactions, *, split: str, cases: int, progress: Progress
) -> Live | None:
    """Return what the live model reaches on the test part of the newest split, routed.

    `cases` is how many the new model was tested on. None when the live model knows nothing of
    this data, so that there is nothing to compare.
    """
    try:
        parts = make_split(interactions, split, catalog=live.catalog)
    except DataError:
        return None
    known = parts.open_test()
    if not len(known):
        return None
    ranker = ranker_of(live)
    ranks_US = ranks_by_submodel(
        ranker, known, exclude_seen=not live.manifest.repeats, progress=progress
    )
    chosen_U = routed_places(ranker, known, live.manifest.router.price)
    ndcg_US = ndcg_at(ranks_US, 10)
    rows = live.manifest.training.get("rows", 0)
    return Live(
        version=live.version,
        ndcg_10=float(ndcg_US[range(len(known)), chosen_U].sum()) / cases,
        cases=len(known),
        items=len(live.catalog),
        rows=rows if isinstance(rows, int) else 0,
    )


def judge(gate: Gate, found: Evaluation, live: Live | None, *, items: int, rows: int) -> None:
    """Return when a model with these figures may be published; else raise RefusedError."""
    routed = found.row("routed")
    assert routed.flops_ratio is not None
    saved, ndcg = 1 - routed.flops_ratio, routed.metrics["ndcg@10"]
    if found.cases < gate.min_cases:
        raise RefusedError(
            "size",
            f"only {found.cases} users could be tested, at least {gate.min_cases} are needed to "
            "judge a model; bring more data or lower --gate-cases",
        )
    if not gate.min_saved <= saved <= gate.max_saved:
        raise RefusedError(
            "savings",
            f"routing saves {saved:.1%} of the full network's compute, outside "
            f"{gate.min_saved:.1%} to {gate.max_saved:.1%} (--gate-saved)",
        )
    if live is None:
        return
    for what, new, old in (("items", items, live.items), ("interactions", rows, live.rows)):
        if new < old * (1 - gate.max_shrink):
            raise RefusedError(
                "size",
                f"{new:,} {what}, {live.version} had {old:,}: more than {gate.max_shrink:.0%} "
                "are gone. Is the data complete? If so, raise --gate-shrink",
            )
    if not ndcg >= live.ndcg_10 * (1 - gate.tolerance):
        raise RefusedError(
            "accuracy",
            f"NDCG@10 is {ndcg:.4f}, that of {live.version} {live.ndcg_10:.4f} on the same users: "
            f"more than {gate.tolerance:.1%} lower (--gate-tolerance)",
        )


@torch.inference_mode()
def replay_golden(checkpoint: Checkpoint) -> None:
    """Return when the checkpoint, as read from disk, repeats its golden answers.

    Raises RefusedError `golden`.
    """
    ranker, catalog = ranker_of(checkpoint), checkpoint.catalog
    places = {submodel.name: place for place, submodel in enumerate(ranker.served)}
    for number, query in enumerate(checkpoint.golden, start=1):
        history = catalog.encode(query.history)[0]
        ids_BL, lengths_B = stack([history], ranker.bucket(len(history)))
        place = places[query.submodel]
        query_BE = ranker.encode(place, ids_BL, lengths_B)
        scores_V = ranker.score(place, query_BE, ids_BL, lengths_B)[0]
        scores_V[history] = -torch.inf
        _, scores = top_rows(scores_V, len(query.items))
        worst = max(
            (abs(a - b) / max(1.0, abs(b)) for a, b in zip(scores, query.scores, strict=True)),
            default=0.0,
        )
        if not worst <= _SCORE_TOLERANCE:
            raise RefusedError(
                "golden",
                f"golden query {number} on {query.submodel} differs by {worst:.2g} after reading "
                "the checkpoint back",
            )

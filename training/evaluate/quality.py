"""Ranks of the true next item under each submodel, by the code that serves."""

# U cases, S submodels, B batch, V catalog rows

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.config import Submodel
from models.memory import TransitionMemory
from models.ranker import Ranker, recent, stack
from models.supernet import Supernet
from training.data.sequences import Sequences
from training.data.split import EvalCases
from training.evaluate.metrics import ndcg_at, rank_of_target
from training.progress import Progress, Silent

_CELLS = 8_000_000
_MOST_BATCH = 512


@torch.inference_mode()
def ranks_by_submodel(
    ranker: Ranker,
    cases: EvalCases,
    *,
    exclude_seen: bool,
    places: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float64]:
    """Return ranks_US float64: the rank of every case's target under each served submodel.

    Full ranking over the catalog; the history's items are left out when `exclude_seen`, ties
    count at their mean rank. `places` limits the submodels, in this order; all by default.
    """
    places = range(len(ranker.served)) if places is None else places
    ranks_US = np.empty((len(cases), len(places)))
    rows = ranker.config.num_items + 1
    size = max(1, min(_MOST_BATCH, _CELLS // rows))
    order = cases.histories.lengths().argsort(kind="stable")
    with (progress or Silent()).track("ranking the catalog", len(cases)) as advance:
        for start in range(0, len(cases), size):
            chosen = order[start : start + size]
            full = [cases.histories[int(i)] for i in chosen]
            cut = [history[-ranker.config.max_length :].tolist() for history in full]
            ids_BL, lengths_B = stack(cut, ranker.bucket(max(len(history) for history in cut)))
            targets_B = torch.from_numpy(cases.targets[chosen])
            for column, place in enumerate(places):
                query_BE = ranker.encode(place, ids_BL, lengths_B)
                scores_BV = ranker.score(place, query_BE, ids_BL, lengths_B)
                ranks = rank_of_target(scores_BV, targets_B, full if exclude_seen else None)
                ranks_US[chosen, column] = ranks.numpy()
            advance(len(chosen))
    return ranks_US


def ndcg_by_submodel(
    supernet: Supernet,
    memory: TransitionMemory | None,
    submodels: Sequence[Submodel],
    cases: EvalCases,
    *,
    exclude_seen: bool,
) -> list[float]:
    """Return the mean NDCG@10 of each submodel on the cases."""
    ranker = Ranker(supernet, memory, None, submodels)
    ranks_US = ranks_by_submodel(ranker, cases, exclude_seen=exclude_seen)
    return [float(ndcg_at(ranks_US[:, s], 10).mean()) for s in range(len(submodels))]


@torch.inference_mode()
def router_features(ranker: Ranker, histories: Sequences) -> Tensor:
    """Return what the router reads of every history, (U, C) float32."""
    rows = [histories[i].tolist() for i in range(len(histories))]
    return torch.from_numpy(ranker.features(recent(rows), lengths_read(ranker, histories).numpy()))


def lengths_read(ranker: Ranker, histories: Sequences) -> Tensor:
    """Return how many items of every history the network reads at most, (U,) int64."""
    return torch.from_numpy(np.minimum(histories.lengths(), ranker.config.max_length))


@torch.inference_mode()
def routed_places(ranker: Ranker, cases: EvalCases, price: float) -> NDArray[np.int64]:
    """Return the place in `served` that the router gives every case at `price`, as served."""
    rows = [cases.histories[i].tolist() for i in range(len(cases))]
    return ranker.route(recent(rows), lengths_read(ranker, cases.histories).numpy(), price)


def totals(
    ranker: Ranker, lengths_U: Tensor, *, routed: bool = True
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (cost_US, full_U) in FLOPs: every submodel, and the full network alone.

    At the length each history is padded to, as served; the router is charged when `routed`.
    """
    places = range(len(ranker.served))
    cost_NS = np.array(
        [
            [ranker.cost(place, bucket, routed=routed).total for place in places]
            for bucket in ranker.buckets
        ],
        dtype=np.float64,
    )
    full_N = np.array([ranker.full_cost(bucket).total for bucket in ranker.buckets], dtype=float)
    bucket_U = np.searchsorted(ranker.buckets, lengths_U.numpy())
    return cost_NS[bucket_U], full_N[bucket_U]


def cost_order(ranker: Ranker) -> list[int]:
    """Return the submodels' places by rising FLOPs at full length, the full network's last.

    That is the order in which a checkpoint lists them.
    """
    most, last = ranker.config.max_length, len(ranker.served) - 1
    cost = [ranker.cost(place, most, routed=True).total for place in range(last)]
    return [*sorted(range(last), key=cost.__getitem__), last]


@torch.inference_mode()
def cpu_milliseconds(
    ranker: Ranker, cases: EvalCases, *, most: int = 100
) -> tuple[list[float], float]:
    """Return the median CPU ms per user of each served submodel at batch 1, and of the router.

    Encoder and scoring are charged to the submodel. One thread's clock, submodels alternating.
    """
    histories = [cases.histories[i].tolist() for i in range(min(most, len(cases)))]
    spent: list[list[float]] = [[] for _ in ranker.served]
    routing: list[float] = []
    for history in histories:
        cut = history[-ranker.config.max_length :]
        began = time.thread_time()
        if ranker.router is not None:
            ranker.route(recent([cut]), np.array([len(cut)]), 0.0)
        routing.append(time.thread_time() - began)
        ids_BL, lengths_B = stack([cut], ranker.bucket(len(cut)))
        for place, times in enumerate(spent):
            began = time.thread_time()
            ranker.score(place, ranker.encode(place, ids_BL, lengths_B), ids_BL, lengths_B)
            times.append(time.thread_time() - began)
    return [1e3 * float(np.median(times)) for times in spent], 1e3 * float(np.median(routing))

"""The lists that users get, for what depends on whole lists: coverage."""

# U cases, K list length

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from models.ranker import Ranker, stack
from training.data.split import EvalCases
from training.evaluate.metrics import CUTOFFS, coverage_at, top_items
from training.progress import Progress, Silent

_CELLS = 8_000_000
_MOST_BATCH = 512


def coverage(items_UK: NDArray[np.int64], *, num_items: int) -> dict[str, float]:
    """Return coverage at every cutoff, by keys such as `coverage@10`."""
    return {f"coverage@{k}": coverage_at(items_UK, k, num_items=num_items) for k in CUTOFFS}


@torch.inference_mode()
def top_lists(
    ranker: Ranker,
    cases: EvalCases,
    places_U: NDArray[np.int64],
    *,
    exclude_seen: bool,
    progress: Progress | None = None,
) -> NDArray[np.int64]:
    """Return items_UK int64: the best rows of every case under its submodel, best first.

    K is the largest cutoff. The history's items are left out when `exclude_seen`, which is the
    whole history and not only what the network reads; 0 where no item is left.
    """
    k = max(CUTOFFS)
    items_UK = np.zeros((len(cases), k), dtype=np.int64)
    size = max(1, min(_MOST_BATCH, _CELLS // (ranker.config.num_items + 1)))
    # Cases of one submodel together, short ones first, so that batches pad little.
    order = np.lexsort((cases.histories.lengths(), places_U))
    edges = np.flatnonzero(np.diff(places_U[order], prepend=-1))
    with (progress or Silent()).track("listing for coverage", len(cases)) as advance:
        for first, last in zip(edges, [*edges[1:], len(order)], strict=True):
            for start in range(int(first), int(last), size):
                chosen = order[start : min(start + size, int(last))]
                place = int(places_U[chosen[0]])
                full = [cases.histories[int(case)] for case in chosen]
                cut = [history[-ranker.config.max_length :].tolist() for history in full]
                ids_BL, lengths_B = stack(cut, ranker.bucket(max(len(one) for one in cut)))
                query_BE = ranker.encode(place, ids_BL, lengths_B)
                scores_BV = ranker.score(place, query_BE, ids_BL, lengths_B)
                best_BK = top_items(scores_BV, k, full if exclude_seen else None)
                items_UK[chosen] = best_BK.numpy()
                advance(len(chosen))
    return items_UK

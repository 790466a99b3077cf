"""Ranking metrics over the whole catalog, one true next item per user.

Definitions, the same everywhere in this project:

- **Rank**: 1 plus the items that score higher than the target, plus half of the others that
  score the same. Ties so count at their mean rank: a model that scores everything alike gets
  the middle of the catalog, not the top. Ranks are therefore multiples of one half.
- **Who is ranked**: every item of the catalog. Padding (row 0) never is. Items the user has seen
  are left out where the caller gives them; the target always stays, even when it was seen.
- **HR@k**: 1 when rank <= k, else 0; a mean rank of k + 0.5 is a miss. With one target it is
  also Recall@k.
- **NDCG@k**: 1 / log2(1 + rank) when rank <= k, else 0. The ideal is 1.
- **MRR@k**: 1 / rank when rank <= k, else 0.
- **Coverage@k**: the share of the catalog that stands in at least one user's top k.

Per-user arrays come back, so that users can be compared in pairs; the figure of a report is
their mean over users, never over batches.
"""

# B users of a batch, U users, V catalog rows, K list length

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.evaluate.ragged import Ragged, flatten

CUTOFFS = (10, 20)

_FLOATS = (torch.float32, torch.float64)


def rank_of_target(scores_BV: Tensor, targets_B: Tensor, seen: Ragged | None = None) -> Tensor:
    """Return ranks_B float64, the rank of each target; see the module for ties and exclusions.

    Args:
        scores_BV: (B, V) float32 or float64, finite but for row 0, whose value is never read.
        targets_B: (B,) int64 in 1..V-1.
        seen: per user the rows to leave out, in any order, repeats and 0 allowed; None: none.

    Raises:
        ValueError: a shape or row is out of range, or a score is not finite.
    """
    rows = _check_scores(scores_BV)
    if targets_B.shape != (len(scores_BV),):
        raise ValueError(
            f"targets have shape {tuple(targets_B.shape)}; {len(scores_BV)} users need one each"
        )
    if len(targets_B) == 0:
        return torch.empty(0, dtype=torch.float64)
    if targets_B.min() < 1 or targets_B.max() >= rows:
        raise ValueError(
            f"targets span {int(targets_B.min())} to {int(targets_B.max())}; "
            f"they must lie in 1..{rows - 1}"
        )
    scores, targets = scores_BV.numpy(force=True), targets_B.numpy(force=True)
    bar_B = scores[np.arange(len(scores)), targets]
    # User by user a row stays in the cache: 20 times faster than sums over (B, V) masks.
    greater_B = np.empty(len(scores), dtype=np.int64)
    equal_B = np.empty(len(scores), dtype=np.int64)
    for user, bar in enumerate(bar_B):
        greater_B[user] = np.count_nonzero(scores[user, 1:] > bar)
        equal_B[user] = np.count_nonzero(scores[user, 1:] == bar) - 1  # less the target itself
    if seen is not None:
        # Counted over all items, then seen ones taken back: nothing is copied or overwritten.
        users, items = _distinct(seen, len(scores), rows)
        others = items != targets[users]
        users, items = users[others], items[others]
        seen_scores, bars = scores[users, items], bar_B[users]
        greater_B -= np.bincount(users[seen_scores > bars], minlength=len(scores))
        equal_B -= np.bincount(users[seen_scores == bars], minlength=len(scores))
    return torch.from_numpy(1.0 + greater_B + equal_B / 2)


def top_items(scores_BV: Tensor, k: int, seen: Ragged | None = None) -> Tensor:
    """Return items_BK int64, each user's best `k` unseen rows, best first; ties in any order.

    Where fewer than `k` items are left, the places after them hold 0. Scores as in
    `rank_of_target`; ValueError on the same faults.
    """
    rows = _check_scores(scores_BV)
    _check_cutoff(k)
    left_BV = scores_BV.clone()
    left_BV[:, 0] = -torch.inf
    if seen is not None:
        users, items = _distinct(seen, len(scores_BV), rows)
        left_BV[torch.from_numpy(users), torch.from_numpy(items)] = -torch.inf
    best = left_BV.topk(min(k, rows), dim=1)
    items_BK = best.indices.masked_fill(best.values == -torch.inf, 0)
    return torch.nn.functional.pad(items_BK, (0, k - items_BK.shape[1]))


def hr_at(ranks_U: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Return (U,) float64: 1 where the rank is at most `k`, else 0."""
    return _hits(ranks_U, k).astype(np.float64)


def ndcg_at(ranks_U: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Return (U,) float64: 1 / log2(1 + rank) where the rank is at most `k`, else 0."""
    return np.where(_hits(ranks_U, k), 1.0 / np.log2(1.0 + ranks_U), 0.0)


def mrr_at(ranks_U: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Return (U,) float64: 1 / rank where the rank is at most `k`, else 0."""
    return np.where(_hits(ranks_U, k), 1.0 / ranks_U, 0.0)


def coverage_at(items_UK: NDArray[np.integer], k: int, *, num_items: int) -> float:
    """Return the share of the catalog in at least one user's first `k` items; 0 is no item."""
    _check_cutoff(k)
    if items_UK.ndim != 2 or items_UK.shape[1] < k:
        raise ValueError(f"lists have shape {items_UK.shape}; coverage@{k} needs (users, {k})")
    top = items_UK[:, :k]
    if top.size and (top.min() < 0 or top.max() > num_items):
        raise ValueError(f"lists hold {top.min()} to {top.max()}; rows must lie in 0..{num_items}")
    found = np.zeros(num_items + 1, dtype=np.bool_)
    found[top.ravel()] = True
    return float(found[1:].mean())


def _hits(ranks_U: NDArray[np.float64], k: int) -> NDArray[np.bool_]:
    _check_cutoff(k)
    if not np.all(ranks_U >= 1):  # also refuses NaN
        raise ValueError("ranks must be numbers of at least 1")
    return ranks_U <= k


def _check_cutoff(k: int) -> None:
    if k < 1:
        raise ValueError(f"k is {k}; it must be at least 1")


def _check_scores(scores_BV: Tensor) -> int:
    """Return the number of catalog rows; ValueError on a wrong shape or a score not finite."""
    if scores_BV.ndim != 2 or scores_BV.shape[1] < 2 or scores_BV.dtype not in _FLOATS:
        raise ValueError(
            f"scores are {scores_BV.dtype} of shape {tuple(scores_BV.shape)}; "
            "give float32 or float64 of (users, num_items + 1)"
        )
    items_BI = scores_BV.numpy(force=True)[:, 1:]
    # The extremes carry any NaN or infinity along, much faster than a mask of all cells.
    if items_BI.size and not np.isfinite([items_BI.min(), items_BI.max()]).all():
        user, item = (int(place) for place in np.argwhere(~np.isfinite(items_BI))[0])
        raise ValueError(
            f"scores are not finite: user {user} has {items_BI[user, item]} in row {item + 1}; "
            "ranks over such scores would mean nothing"
        )
    return scores_BV.shape[1]


def _distinct(seen: Ragged, users: int, rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (users (n,), items (n,)): each seen pair once, without padding."""
    offsets, items = flatten(seen)
    if len(offsets) != users + 1:
        raise ValueError(f"seen lists {len(offsets) - 1} users, the scores {users}")
    if len(items) and (items.min() < 0 or items.max() >= rows):
        raise ValueError(
            f"seen items span {items.min()} to {items.max()}; rows must lie in 0..{rows - 1}"
        )
    owner = np.repeat(np.arange(users, dtype=np.int64), np.diff(offsets))
    keys = np.unique(owner * rows + items)
    owner, items = np.divmod(keys, rows)
    return owner[items > 0], items[items > 0]

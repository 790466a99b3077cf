"""Recall and NDCG at 20 over all items a user has not met: the protocol of graph models."""

# U users, I items, K cutoff

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.lightgcn.data import Pairs

CUTOFF = 20
_USERS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class Quality:
    """Means over users who have something held out."""

    recall: float
    ndcg: float


@torch.no_grad()
def quality(users_UE: Tensor, items_IE: Tensor, held_N2: Pairs, known_N2: Pairs) -> Quality:
    """Return recall@20 and NDCG@20 of `held_N2`; items of `known_N2` are left out of the ranking.

    Recall divides by all held items, NDCG by the best order that 20 places allow.
    """
    num_users, num_items = len(users_UE), len(items_IE)
    held_UI = _matrix(held_N2, num_users, num_items)
    known_UI = _matrix(known_N2, num_users, num_items)
    discount_K = 1 / torch.log2(torch.arange(CUTOFF) + 2.0)
    best_K = discount_K.cumsum(0)
    recalls, gains = [], []
    judged = torch.from_numpy(np.unique(held_N2[:, 0]))
    for chosen in torch.split(judged, _USERS_AT_ONCE):
        scores_BI = users_UE[chosen] @ items_IE.T
        scores_BI.masked_fill_(known_UI[chosen], -torch.inf)
        top_BK = scores_BI.topk(min(CUTOFF, num_items), dim=1).indices
        hits_BK = held_UI[chosen].gather(1, top_BK).float()
        held_B = held_UI[chosen].sum(1)
        recalls.append(hits_BK.sum(1) / held_B)
        ideal_B = best_K[held_B.clamp(max=CUTOFF) - 1]
        gains.append((hits_BK * discount_K[: hits_BK.shape[1]]).sum(1) / ideal_B)
    return Quality(float(torch.cat(recalls).mean()), float(torch.cat(gains).mean()))


def _matrix(pairs_N2: Pairs, num_users: int, num_items: int) -> Tensor:
    found = torch.zeros(num_users, num_items, dtype=torch.bool)
    found[torch.from_numpy(pairs_N2[:, 0]), torch.from_numpy(pairs_N2[:, 1])] = True
    return found

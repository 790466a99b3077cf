"""A user-item graph and what is held out of it: per user, at random, as graph models are judged.

Its order is not used: LightGCN knows who met what, not when.
"""

# U users, I items, N pairs

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.csr import to_csr
from training.data.interactions import Interactions

Pairs = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GraphData:
    """Distinct (user, item) pairs, (N, 2) int64, each in exactly one of the three parts."""

    num_users: int
    num_items: int
    training_N2: Pairs
    validation_N2: Pairs
    test_N2: Pairs

    def adjacency(self) -> Tensor:
        """Return the normalised graph, (U + I, U + I) CSR float32: 1 / sqrt(degree * degree)."""
        users, items = self.training_N2[:, 0], self.training_N2[:, 1] + self.num_users
        nodes = self.num_users + self.num_items
        degree = np.bincount(np.concatenate([users, items]), minlength=nodes).astype(np.float64)
        weights = 1 / np.sqrt(degree[users] * degree[items])
        places = torch.from_numpy(
            np.stack([np.concatenate([users, items]), np.concatenate([items, users])])
        )
        values = torch.from_numpy(np.concatenate([weights, weights]).astype(np.float32))
        shape = (nodes, nodes)
        return to_csr(torch.sparse_coo_tensor(places, values, shape, check_invariants=True))


def graph_data(interactions: Interactions, *, seed: int) -> GraphData:
    """Return 80 / 10 / 10 % of every user's distinct items; users of fewer than 10 train only."""
    pairs_N2 = np.unique(
        np.stack([interactions.user_codes, interactions.item_codes], 1).astype(np.int64), axis=0
    )
    shuffled = np.random.default_rng(seed).permutation(len(pairs_N2))
    order = shuffled[np.argsort(pairs_N2[shuffled, 0], kind="stable")]
    counts = np.bincount(pairs_N2[:, 0], minlength=interactions.num_users)
    begins = np.concatenate([[0], np.cumsum(counts)[:-1]])
    users = pairs_N2[order, 0]
    place = np.arange(len(order)) - begins[users]
    held = counts[users] // 10
    validates, tests = place < held, (place >= held) & (place < 2 * held)
    return GraphData(
        num_users=interactions.num_users,
        num_items=interactions.num_items,
        training_N2=pairs_N2[order[~validates & ~tests]],
        validation_N2=pairs_N2[order[validates]],
        test_N2=pairs_N2[order[tests]],
    )

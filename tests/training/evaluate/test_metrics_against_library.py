"""Our metrics beside those of ir-measures (trec_eval's code) on random rankings.

The library orders ties by document name. So a tied target is asked for twice, once just above
and once just below those that tie with it; our rank must be the mean of the two.
"""

from __future__ import annotations

import ir_measures
import numpy as np
import pytest
import torch
from ir_measures import RR, Success, nDCG
from numpy.typing import NDArray

from training.evaluate.metrics import hr_at, mrr_at, ndcg_at, rank_of_target

USERS, ITEMS = 60, 40
Floats = NDArray[np.float64]
OURS = {"nDCG": ndcg_at, "RR": mrr_at, "Success": hr_at}
WHOLE = ITEMS + 1


def theirs(scores_UV: Floats, targets_U: NDArray[np.int64], seen_UV: NDArray[np.bool_]) -> Floats:
    """Return (users, 7): nDCG, RR and Success at 10 and 20, and RR of the whole ranking."""
    measures = [measure @ k for k in (10, 20) for measure in (nDCG, RR, Success)] + [RR @ WHOLE]
    qrels = {str(user): {str(item): 1} for user, item in enumerate(targets_U)}
    run = {
        str(user): {
            str(item): float(scores_UV[user, item])
            for item in range(1, ITEMS + 1)
            if item == targets_U[user] or not seen_UV[user, item]
        }
        for user in range(USERS)
    }
    found = np.full((USERS, len(measures)), np.nan)
    for one in ir_measures.iter_calc(measures, qrels, run):
        found[int(one.query_id), measures.index(one.measure)] = one.value
    assert np.isfinite(found).all()
    return found


def a_world(seed: int, levels: int) -> tuple[Floats, NDArray[np.int64], NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    if levels:
        scores_UV = rng.integers(0, levels, (USERS, ITEMS + 1)).astype(np.float64)
    else:
        scores_UV = rng.permuted(np.tile(np.arange(ITEMS + 1.0), (USERS, 1)), axis=1)
    targets_U = rng.integers(1, ITEMS + 1, USERS)
    return scores_UV, targets_U, rng.random((USERS, ITEMS + 1)) < 0.2


def our_ranks(
    scores_UV: Floats, targets_U: NDArray[np.int64], seen_UV: NDArray[np.bool_]
) -> Floats:
    seen = [np.flatnonzero(row).astype(np.int64) for row in seen_UV]
    ranks: Floats = rank_of_target(
        torch.from_numpy(scores_UV), torch.from_numpy(targets_U), seen
    ).numpy()
    return ranks


def our_table(ranks_U: Floats) -> Floats:
    columns = [OURS[name](ranks_U, k) for k in (10, 20) for name in ("nDCG", "RR", "Success")]
    return np.stack([*columns, 1 / ranks_U], axis=1)


@pytest.mark.parametrize("seed", range(3))
def test_without_ties_every_user_and_metric_agrees(seed: int) -> None:
    world = a_world(seed, levels=0)
    assert our_table(our_ranks(*world)) == pytest.approx(theirs(*world), abs=1e-9)


@pytest.mark.parametrize("levels", [1, 3, 12])
def test_a_tied_target_ranks_midway_between_its_best_and_worst_place(levels: int) -> None:
    scores_UV, targets_U, seen_UV = a_world(7, levels)
    users = np.arange(USERS)
    ends = []
    for shift in (0.5, -0.5):  # less than the levels lie apart
        moved_UV = scores_UV.copy()
        moved_UV[users, targets_U] += shift
        ends.append(theirs(moved_UV, targets_U, seen_UV))
    best, worst = ends
    ranks_U = our_ranks(scores_UV, targets_U, seen_UV)
    assert (best[:, -1] > worst[:, -1]).any(), "no ties were drawn"
    assert ranks_U == pytest.approx((1 / best[:, -1] + 1 / worst[:, -1]) / 2, abs=1e-6)
    ours = our_table(ranks_U)
    assert (ours <= best + 1e-9).all()
    assert (ours >= worst - 1e-9).all()

"""The guide and uniform losses, and the probe that tells easy histories from hard ones."""

# B batch, L length, S submodels, A values of one axis, V catalog rows with padding

from __future__ import annotations

import torch
from torch import Tensor

from models.network import NetworkWeights, encode_all, score_all
from training.canet.choice import Axes
from training.evaluate.metrics import rank_of_target

WIDTH_BASE = 4
DEPTH_BASE = 2


def soft_targets(values: int, base: int, easy_B: Tensor) -> Tensor:
    """Return (B, A) float32 targets over an axis of `values` values.

    Hard histories want the large: value i by base^i, (1, 4, 16) / 21 for three widths. Easy ones
    want the reverse.
    """
    rising_A = torch.tensor([float(base**place) for place in range(values)])
    rising_A /= rising_A.sum()
    return torch.where(easy_B[:, None], rising_A.flip(0), rising_A)


def guide_loss(log_marginals: Axes, easy_B: Tensor) -> Tensor:
    """Return the mean cross-entropy of the router's marginals to the soft targets, axes summed."""
    loss = torch.zeros(())
    for log_BA, base in (
        (log_marginals.emb, WIDTH_BASE),
        (log_marginals.width, WIDTH_BASE),
        (log_marginals.depth, DEPTH_BASE),
    ):
        target_BA = soft_targets(log_BA.shape[1], base, easy_B)
        loss = loss - (target_BA * log_BA).sum(1).mean()
    return loss


def uniform_loss(logits_BS: Tensor) -> Tensor:
    """Return the mean cross-entropy of the routing to a uniform one."""
    return -torch.log_softmax(logits_BS, 1).mean()


@torch.no_grad()
def easy_histories(
    smallest: NetworkWeights, item_ids_BL: Tensor, targets_BL: Tensor, *, easy_rank: int
) -> Tensor:
    """Return easy_B bool: whether the smallest submodel ranks the newest target well.

    The true slice without dropout answers, its own input left out of the ranking; the target
    stays. Inputs and targets are int64, right-padded with 0, at least one item each.
    """
    newest_B = (item_ids_BL > 0).sum(1) - 1
    places = (torch.arange(len(item_ids_BL)), newest_B)
    scores_BV = score_all(smallest, encode_all(smallest, item_ids_BL)[places])
    seen = [ids[ids > 0].numpy() for ids in item_ids_BL]
    return rank_of_target(scores_BV, targets_BL[places], seen) <= easy_rank

"""A random router whose choice differs from history to history, and what its prices spend."""

# B batch, S served submodels, C router features

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from models.ranker import Ranker, recent
from models.router import FEATURE_SETS, Ids, Router

HIDDEN = 32
# Spread of the router's predicted qualities between histories, and how far their mean rises from
# the cheapest submodel to the full network; trained ones have about as much.
_QUALITY_SPREAD = 0.05
_QUALITY_RISE = 0.1
_PRICE_STEPS = 40
_LOWEST_PRICE, _HIGHEST_PRICE = 1e-6, 1e4


def random_router(num_submodels: int, seed: int) -> Router:
    """Return a router of random weights that is told of the memory's surprise."""
    generator = torch.Generator().manual_seed(seed)
    router = Router(features=FEATURE_SETS[-1], hidden=HIDDEN, num_submodels=num_submodels)
    with torch.no_grad():
        for parameter in router.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return router.requires_grad_(False)


@torch.inference_mode()
def settle(ranker: Ranker, router: Router, rows: list[list[int]]) -> None:
    """Make what `router` expects rise evenly with the cost, and spread among these histories."""
    recent_BW, lengths_B = _view(ranker, rows)
    features_BC = torch.from_numpy(ranker.features(recent_BW, lengths_B))
    assert isinstance(router.feature_mean, Tensor)
    assert isinstance(router.feature_scale, Tensor)
    router.feature_mean.copy_(features_BC.mean(0))
    router.feature_scale.copy_(features_BC.std(0, unbiased=False).clamp(min=1e-3))
    quality_BS = router(features_BC)
    spread_S = quality_BS.std(0, unbiased=False).clamp(min=1e-6)
    router.output.weight.mul_((_QUALITY_SPREAD / spread_S)[:, None])
    router.output.bias.mul_(_QUALITY_SPREAD / spread_S)
    wanted_S = 0.5 + torch.linspace(0, _QUALITY_RISE, len(ranker.served))
    router.output.bias.add_(wanted_S - router(features_BC).mean(0))


@torch.inference_mode()
def price_of_share(ranker: Ranker, rows: list[list[int]], encoder_share: float) -> float:
    """Return the price at which routing spends this share of the full network's encoder FLOPs."""
    recent_BW, lengths_B = _view(ranker, rows)
    encoder_BS = np.array(
        [
            [
                ranker.cost(place, ranker.bucket(int(length)), routed=False).encoder
                for place in range(len(ranker.served))
            ]
            for length in lengths_B
        ],
        dtype=np.float64,
    )

    def share(price: float) -> float:
        chosen_B = ranker.route(recent_BW, lengths_B, price)
        spent = np.take_along_axis(encoder_BS, chosen_B[:, None], axis=1).sum()
        return float(spent / encoder_BS[:, -1].sum())

    low, high = _LOWEST_PRICE, _HIGHEST_PRICE
    for _ in range(_PRICE_STEPS):  # the share falls as the price rises
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if share(middle) > encoder_share else (low, middle)
    return high


def _view(ranker: Ranker, rows: list[list[int]]) -> tuple[Ids, Ids]:
    """Return what the router sees of histories: (newest items, lengths that are read)."""
    most = ranker.config.max_length
    return recent(rows), np.array([min(len(row), most) for row in rows], dtype=np.int64)

"""Fit the router on what the frozen submodels really did with users the weights never saw.

A supervised problem, no Gumbel noise needed: predict from a history's features how much better
or worse than usual each submodel will rank the next item. Single cases are mostly noise, so the
network is small, fitted boldly and cautiously; kept is what held-out folds confirm more of, shrunk
towards the mean by what they confirm. Nothing to learn leaves almost a static choice: what remains
of the order among users is as good as chance, and lets any budget be met between two submodels.

Mean qualities are made to rise with cost, since a larger submodel that looks worse on a few
thousand cases mostly is not: price 0 leads to the largest, a rising price to the smallest.
"""

# U users, C features, S submodels

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from models.router import TABLE_FEATURES, Router

HIDDEN = 32
_FOLDS = 5
_BATCH = 256
_RATE = 3e-3
_LEAST_SHRINKAGE = 0.02
_LEAST_RISE = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Manner:
    """How long to learn, and how strongly weights are pulled to zero meanwhile (AdamW's decay).

    At most `most` epochs, and about `cases` cases in all, but no fewer than `least` epochs.
    """

    least: int
    most: int
    cases: int
    decay: float

    def epochs(self, users: int) -> int:
        return max(self.least, min(self.most, self.cases // max(1, users)))


# The bold one finds plain rules, of any form; where cases are noise it learns that by heart.
_BOLD = _Manner(least=4, most=60, cases=2_000_000, decay=0.05)
_CAUTIOUS = _Manner(least=8, most=60, cases=150_000, decay=10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterFit:
    """The router, and its out-of-fold predictions for the users it was fitted on.

    quality_US float32: every user predicted by a router that did not see that user. `shrinkage`
    in 0..1 is what is left of the predicted deviations; `explained` is the share of variance
    between submodels that held-out folds saw explained (negative when none was); of two ways to
    fit, the one of which they saw more was kept, so it is a trifle hopeful.
    """

    router: Router
    quality_US: Tensor
    shrinkage: float
    explained: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterCases:
    """Features (N, C) and observed qualities (N, S) of cases, both float32."""

    features: Tensor
    quality: Tensor

    def targets(self) -> Tensor:
        """Return each case's deviation from its mean over submodels, less what is usual."""
        deviation = self.quality - self.quality.mean(1, keepdim=True)
        return deviation - deviation.mean(0)


def fit_router(
    features_UC: Tensor,
    quality_US: Tensor,
    *,
    seed: int,
    extra: RouterCases | None = None,
    reads_table: bool = True,
) -> RouterFit:
    """Fit on (U, C) float32 features and (U, S) float32 observed qualities, 1 / log2(1 + rank).

    `extra` cases help every fold to learn, and are none of those that are predicted. Without
    `reads_table` the router learns from everything but the item table, and goes on to predict the
    same where the table is narrowed.

    What a user finds hard with every submodel cannot be routed away, so the target is each
    user's deviation from the mean over submodels; the constant mean quality per submodel is added
    back. Deterministic for a seed. ValueError with fewer than 2 users.
    """
    users, _ = quality_US.shape
    if users < 2:
        raise ValueError(f"{users} users are too few to fit a router; bring more data")
    if not reads_table:
        features_UC = _without_table(features_UC)
        if extra is not None:
            extra = replace(extra, features=_without_table(extra.features))
    mean_S = torch.from_numpy(rising(quality_US.mean(0).numpy()))
    target_US = RouterCases(features=features_UC, quality=quality_US).targets()
    spread = target_US.std().clamp(min=1e-8)
    more_NC, more_NS = features_UC[:0], target_US[:0]
    if extra is not None:
        more_NC, more_NS = extra.features, extra.targets()
    generator = torch.Generator().manual_seed(seed)
    folds_U = torch.randperm(users, generator=generator) % min(_FOLDS, users)

    def predicted(manner: _Manner) -> Tensor:
        predicted_US = torch.zeros_like(target_US)
        for fold in range(int(folds_U.max()) + 1):
            held_U = folds_U == fold
            router = _train(
                torch.cat([features_UC[~held_U], more_NC]),
                torch.cat([target_US[~held_U], more_NS]) / spread,
                manner,
                generator,
            )
            with torch.inference_mode():
                predicted_US[held_U] = router(features_UC[held_U]) * spread
        return predicted_US

    tried = [(manner, predicted(manner)) for manner in (_BOLD, _CAUTIOUS)]
    shrinkage, error, predicted_US, manner = min(
        (
            (*_shrunk(predicted_US, target_US), predicted_US, manner)
            for manner, predicted_US in tried
        ),
        key=lambda one: one[1],
    )
    total = float(target_US.square().sum())
    router = _train(
        torch.cat([features_UC, more_NC]),
        torch.cat([target_US, more_NS]) / spread,
        manner,
        generator,
    )
    with torch.no_grad():
        if not reads_table:
            router.hidden.weight[:, list(TABLE_FEATURES)] = 0.0
        router.output.weight.mul_(shrinkage * spread)
        router.output.bias.mul_(shrinkage * spread).add_(mean_S)
    return RouterFit(
        router=router.requires_grad_(False).eval(),
        quality_US=predicted_US * shrinkage + mean_S,
        shrinkage=shrinkage,
        explained=1 - error / total if total > 0 else 0.0,
    )


def _shrunk(predicted_US: Tensor, target_US: Tensor) -> tuple[float, float]:
    """Return how much of the predictions to believe, and the squared error that is left then."""
    power = float(predicted_US.square().sum())
    shrinkage = float((predicted_US * target_US).sum()) / power if power > 0 else 0.0
    shrinkage = min(1.0, max(_LEAST_SHRINKAGE, shrinkage))
    return shrinkage, float((predicted_US * shrinkage - target_US).square().sum())


def _without_table(features_UC: Tensor) -> Tensor:
    features_UC = features_UC.clone()
    features_UC[:, list(TABLE_FEATURES)] = 0.0
    return features_UC


def rising(mean_S: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the closest means that rise with their place, at least by a trifle each.

    Neighbours out of order are pooled to their average (isotonic regression, equal weights).
    """
    steps = _LEAST_RISE * np.arange(len(mean_S))
    risen: NDArray[np.float32] = (pooled(mean_S) + steps).astype(np.float32)
    return risen


def pooled(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the closest values that never fall: neighbours out of order have their average."""
    pools: list[tuple[float, int]] = []
    for value in values.tolist():
        total, count = value, 1
        while pools and pools[-1][0] / pools[-1][1] >= total / count:
            before, size = pools.pop()
            total, count = total + before, count + size
        pools.append((total, count))
    return np.concatenate([np.full(count, total / count) for total, count in pools])


def _train(
    features_UC: Tensor, target_US: Tensor, manner: _Manner, generator: torch.Generator
) -> Router:
    users, columns = features_UC.shape
    router = Router(features=columns, hidden=HIDDEN, num_submodels=target_US.shape[1])
    with torch.no_grad():
        assert isinstance(router.feature_mean, Tensor)
        assert isinstance(router.feature_scale, Tensor)
        router.feature_mean.copy_(features_UC.mean(0))
        router.feature_scale.copy_(features_UC.std(0).clamp(min=1e-4))
        torch.nn.init.normal_(router.hidden.weight, std=columns**-0.5, generator=generator)
        router.hidden.bias.zero_()
        router.output.weight.zero_()
        router.output.bias.zero_()
    optimizer = torch.optim.AdamW(router.parameters(), lr=_RATE, weight_decay=manner.decay)
    epochs = manner.epochs(users)
    for epoch in range(epochs):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * (1 - epoch / epochs)
        order = torch.randperm(users, generator=generator)
        for start in range(0, users, _BATCH):
            chosen = order[start : start + _BATCH]
            loss = F.mse_loss(router(features_UC[chosen]), target_US[chosen])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
    return router

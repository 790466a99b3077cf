"""Predict what a choice of widths is worth without running it: a neural factorisation machine.

The estimator that RULE's search uses (`NFM`, He and Chua, SIGIR 2017): every (group, width) is a
feature with a vector, the vectors of a choice are pooled by their pairwise products, and a hidden
layer reads the pool. A linear term carries what the groups are worth by themselves.
"""

# N choices, G item groups, W widths, D vector size

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.elastic.search.problem import Floats, Ints

_SIZE = 16
_HIDDEN = 32
_EPOCHS = 150
_RATE = 0.05
_DECAY = 1e-4


class Estimator(nn.Module):
    """Calling it with choices (N, G) int64 gives their predicted values (N,), standardised."""

    def __init__(self, groups: int, widths: int, generator: torch.Generator) -> None:
        super().__init__()
        self._widths = widths
        features = groups * widths
        self.vectors = nn.Parameter(torch.randn(features, _SIZE, generator=generator) * 0.1)
        self.linear = nn.Parameter(torch.zeros(features))
        self.hidden = nn.Parameter(torch.randn(_HIDDEN, _SIZE, generator=generator) / _SIZE**0.5)
        self.hidden_bias = nn.Parameter(torch.zeros(_HIDDEN))
        self.out = nn.Parameter(torch.zeros(_HIDDEN))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, choices_NG: Tensor) -> Tensor:
        """Return values_N."""
        features_NG = choices_NG + torch.arange(choices_NG.shape[1]) * self._widths
        vectors_NGD = self.vectors[features_NG]
        pooled_ND = 0.5 * (vectors_NGD.sum(1).square() - vectors_NGD.square().sum(1))
        hidden = torch.relu(F.linear(pooled_ND, self.hidden, self.hidden_bias))
        return hidden @ self.out + self.linear[features_NG].sum(1) + self.bias


def fit_estimator(choices_NG: Ints, values_N: Floats, widths: int, seed: int) -> Estimator:
    """Return an estimator of `values_N`, each standardised by their mean and spread.

    Squared error, Adagrad at the paper's rate, all choices at once. Deterministic for a seed.
    """
    generator = torch.Generator().manual_seed(seed)
    estimator = Estimator(choices_NG.shape[1], widths, generator)
    spread = max(float(values_N.std()), 1e-9)
    wanted_N = torch.from_numpy((values_N - values_N.mean()) / spread).float()
    choices = torch.from_numpy(choices_NG)
    optimizer = torch.optim.Adagrad(estimator.parameters(), lr=_RATE, weight_decay=_DECAY)
    for _ in range(_EPOCHS):
        loss = F.mse_loss(estimator(choices), wanted_N)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return estimator.requires_grad_(False)


def estimates(estimator: Estimator, choices_NG: Ints) -> Floats:
    """Return the standardised value of every choice, float64; higher is better."""
    found: Floats = estimator(torch.from_numpy(choices_NG)).double().numpy()
    return found

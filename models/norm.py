"""Layer normalisation as every layer and end of the network has it."""

# D hidden width

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

NORM_EPS = 1e-5


def layer_norm(hidden: Tensor, weight_D: Tensor, bias_D: Tensor) -> Tensor:
    """Return `hidden` normed over its last axis."""
    return F.layer_norm(hidden, weight_D.shape, weight_D, bias_D, NORM_EPS)

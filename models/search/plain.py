"""Small catalogs: one float32 product for the batch, a short list, exact scores for the list."""

# B queries, V catalog rows with padding, E embedding width

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from models.search.exact import Floats, Rows

_SPARE = 8
_UNDERFLOW = 1e-40
_LARGEST = 1e37


def product(table_VE: Tensor, bias_V: Tensor, query_BE: Tensor) -> Tensor:
    """Return float32 scores_BV, each within `product_error` of the true one."""
    return torch.addmm(bias_V, query_BE, table_VE[:, : query_BE.shape[1]].T)


def product_error(width: int, q_norm: float, norm_max: float, bias_max: float) -> float:
    """Return how far `product` may be from the truth, in whatever order it adds; inf: no bound."""
    largest = q_norm * norm_max + bias_max
    if not largest < _LARGEST:
        return float("inf")
    return float(2 * (width + 2) * 2.0**-24 * largest + _UNDERFLOW)


def shortlist(scores_V: Tensor, error: float, leave_out: Rows, k: int, allowed_V: object) -> Rows:
    """Return every row that may be among the k best of the rows not left out.

    `scores_V` float32, each within `error` of the truth, is written over.
    """
    scores = scores_V.numpy()
    if not np.isfinite(error):
        rows = np.setdiff1d(np.arange(len(scores)), leave_out)
        return rows if allowed_V is None else rows[np.asarray(allowed_V)[rows]]
    scores[leave_out] = -np.inf
    if allowed_V is not None:
        np.copyto(scores, np.float32(-np.inf), where=~np.asarray(allowed_V))
    size = min(k + _SPARE, len(scores))
    top, places = torch.topk(scores_V, size)
    values, rows = top.numpy(), places.numpy()
    last: Floats = values[min(k, size) - 1]
    if last == -np.inf:
        return rows[values > -np.inf]
    bar = np.float64(last) - 2.0 * error
    if size < len(scores) and values[-1] >= bar:
        return np.flatnonzero(scores >= bar)
    return rows[values >= bar]

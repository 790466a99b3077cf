"""Exact top-k with one tie rule: of equal scores the smaller row, the more popular item, wins."""

from __future__ import annotations

import torch
from torch import Tensor


def top_rows(scores_V: Tensor, k: int) -> tuple[list[int], list[float]]:
    """Return (rows, scores) of the k best finite scores, best first; fewer when fewer are finite.

    `scores_V` float32; a row at -inf is not eligible.
    """
    size = min(k + 1, len(scores_V))
    values, rows = torch.topk(scores_V, size)
    ranked = sorted(zip(rows.tolist(), values.tolist(), strict=True), key=lambda p: (-p[1], p[0]))
    if size == k + 1 and ranked[k - 1][1] == ranked[k][1] != -torch.inf:
        ranked = _with_boundary_ties(scores_V, ranked[k][1])
    ranked = [(row, score) for row, score in ranked[:k] if score != -torch.inf]
    return [row for row, _ in ranked], [score for _, score in ranked]


def _with_boundary_ties(scores_V: Tensor, boundary: float) -> list[tuple[int, float]]:
    rows = (scores_V >= boundary).nonzero().squeeze(1).tolist()
    return sorted(
        ((row, float(scores_V[row])) for row in rows), key=lambda pair: (-pair[1], pair[0])
    )

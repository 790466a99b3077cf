"""The one definition of a score. Whatever finds the rows, their scores come from here.

Factors are float32 and their product in float64 is exact; the products are summed in float64 in
one fixed order (halves onto halves), so a score depends on its row, its query and nothing else:
not on the batch, the rows beside it, the machine's vector width or the way the row was found.
Bias and memory are added in float64, and the sum is rounded to float32 once.
"""

# N rows, E embedding width, V catalog rows with padding

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


def exact_scores(
    table_VE: Floats, bias_V: Floats, query_E: Floats, rows_N: Rows, bonus_N: Floats | None = None
) -> Floats:
    """Return scores_N float32 of `rows_N`: `table . query + bias + bonus`, rounded once.

    The table may be wider than the query: its leading columns count.
    """
    sums_NE = table_VE[rows_N, : len(query_E)].astype(np.float64)
    sums_NE *= query_E.astype(np.float64)
    width = len(query_E)
    while width > 1:
        half = (width + 1) // 2
        sums_NE[:, : width - half] += sums_NE[:, half:width]
        width = half
    # A query that meets no column of the rows has the bias alone.
    product_N = sums_NE[:, 0] if width else np.zeros(len(rows_N))
    total_N: NDArray[np.float64] = product_N + bias_V[rows_N]
    if bonus_N is not None:
        total_N += bonus_N
    with np.errstate(over="ignore"):
        return total_N.astype(np.float32)


def best(scores_N: Floats, rows_N: Rows, k: int) -> tuple[list[int], list[float]]:
    """Return (rows, scores) of the k best finite scores, best first, ties to the smaller row."""
    finite_N = np.isfinite(scores_N)
    if not finite_N.all():
        scores_N, rows_N = scores_N[finite_N], rows_N[finite_N]
    order = np.lexsort((rows_N, -scores_N))[:k]
    return rows_N[order].tolist(), scores_N[order].tolist()

"""What a search says it spent is what its innermost functions were called for.

The scan counts as it goes, inside compiled code. Here the same code runs in Python, with its
two dear functions, the sums over a block and the exact score of a row, counted at their doors by
the shapes they are handed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from models.search import kernel
from models.search.contract import Wanted
from models.search.quantise import BLOCK_ROWS
from models.search.search import CatalogSearch
from models.table.table import whole_table

ROWS, WIDTHS = 12 * BLOCK_ROWS, (16, 32)


class Counted:
    """Multiply-adds by the shapes that the kernel's innermost functions were handed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.scanned = self.checked = 0
        one, two, exact = kernel._sum_one, kernel._sum_two, kernel._exact

        def sum_one(codes_PR: Any, levels_P2: Any, sums_R: Any) -> None:
            self.scanned += self._of(levels_P2, sums_R)
            one(codes_PR, levels_P2, sums_R)

        def sum_two(codes_PR: Any, a_P2: Any, b_P2: Any, a_R: Any, b_R: Any) -> None:
            self.scanned += self._of(a_P2, a_R) + self._of(b_P2, b_R)
            two(codes_PR, a_P2, b_P2, a_R, b_R)

        def exact_score(
            table_VE: Any, row: Any, query_E: Any, bias: Any, bonus: Any, work_E: Any
        ) -> Any:
            self.checked += len(query_E)
            return exact(table_VE, row, query_E, bias, bonus, work_E)

        monkeypatch.setattr(kernel, "_sum_one", sum_one)
        monkeypatch.setattr(kernel, "_sum_two", sum_two)
        monkeypatch.setattr(kernel, "_exact", exact_score)
        for name in ("_judge", "check", "scan"):
            monkeypatch.setattr(kernel, name, getattr(kernel, name).py_func)

    @staticmethod
    def _of(levels_P2: Any, sums_R: Any) -> int:
        """A byte holds two columns; the last level is where the sums start."""
        return 2 * (len(levels_P2) - 1) * len(sums_R)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("queries", [1, 2, 5])
def test_the_search_spends_what_it_says(
    width: int, queries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(width + queries)
    table = rng.standard_normal((ROWS, WIDTHS[-1])).astype(np.float32)
    table *= np.linspace(2.0, 0.1, ROWS, dtype=np.float32)[:, None]  # whole blocks can be left out
    bias = rng.standard_normal(ROWS).astype(np.float32)
    search = CatalogSearch(
        whole_table(torch.from_numpy(table)), torch.from_numpy(bias), WIDTHS, index_from=0
    )
    query_BE = torch.from_numpy(rng.standard_normal((queries, width)).astype(np.float32))
    remembered = np.array([3, 700, ROWS - 1])
    kinds = (
        Wanted(k=10, excluded=[1, 5, 9]),
        Wanted(k=3, memory_rows_N=remembered, memory_N=np.ones(3, dtype=np.float32)),
        Wanted(k=20, allowed_V=np.arange(ROWS) % 7 == 0),
    )
    wanted = [kinds[number % len(kinds)] for number in range(queries)]
    quick = search.top(query_BE, wanted)
    counted = Counted(monkeypatch)
    slow = search.top(query_BE, wanted)
    assert slow == quick
    assert sum(one.multiply_adds for one in quick) == counted.scanned + counted.checked
    assert counted.checked > 0
    assert 0 < counted.scanned <= queries * width * ROWS

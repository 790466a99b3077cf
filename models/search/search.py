"""Exact top-k over the whole catalog, part by part of the item table.

Parts stand by falling popularity and are visited in that order, for a batch at once; a query skips
a part none of whose rows can still be among its k best. In a part the 4-bit scan or a plain product
finds every row that could be, and all are scored alike (`exact.py`), so the answer is the
brute-force answer bit for bit, whatever was skipped.
"""

# B queries, V catalog rows with padding, E embedding width, N rows of a part

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.search.asked import Asked
from models.search.contract import Found, Wanted
from models.search.part import PartSearch
from models.search.task import Task
from models.table.table import ItemTable

INDEX_FROM_ROWS = 100_000
"""Below this a plain product is as fast for batches, and no compiled scan is needed."""


class CatalogSearch:
    """Answers queries of the given widths over one item table; for one thread at a time.

    `table` float32, its rows contiguous, row 0 padding; `bias_V` float32. A query of width E' < E
    is scored with the leading E' columns. Both are read where they lie: neither may change. An
    index of about R / 2 + 4 bytes a row is built for every part of `index_from` rows and more, R
    being the part's numbers a row. ValueError when the table is not finite or not float32, or a
    width is not one of its columns.
    """

    def __init__(
        self,
        table: ItemTable,
        bias_V: Tensor,
        widths: Sequence[int],
        *,
        index_from: int = INDEX_FROM_ROWS,
    ) -> None:
        check_searchable(table, (*table.tensors(), bias_V), widths)
        self._parts = parts_of(table, bias_V, widths, index_from=index_from)

    @property
    def index_bytes(self) -> int:
        """Bytes the search holds beside the table; 0 for a small catalog."""
        return sum(part.index_bytes for part in self._parts)

    def top(self, query_BE: Tensor, wanted: Sequence[Wanted]) -> list[Found]:
        """Return the best rows of each query. `query_BE` float32; ValueError if not finite."""
        queries = query_BE.detach().numpy()
        if not np.isfinite(queries).all():
            raise ValueError("a query vector is not finite")
        asked = [Asked(one) for one in wanted]
        for part in self._parts:
            query_BR, spent = part.queries(queries)
            open_places: list[int] = []
            tasks: list[Task] = []
            masks: dict[int, NDArray[np.bool_]] = {}
            for place, (query_R, one) in enumerate(zip(query_BR, asked, strict=True)):
                one.multiply_adds += spent
                task = one.task(part, masks)
                if one.only_checks or one.is_beyond(part, query_R):
                    if len(task.rows):
                        one.add(part.check(query_R, task), part.start)
                else:
                    open_places.append(place)
                    tasks.append(task)
            if tasks:
                found = part.top(query_BR[open_places], tasks)
                for place, answer in zip(open_places, found, strict=True):
                    asked[place].add(answer, part.start)
        return [one.found() for one in asked]


def check_searchable(table: ItemTable, tensors: Iterable[Tensor], widths: Sequence[int]) -> None:
    """Return when all is float32 and finite, and the widths are the table's; else ValueError."""
    for tensor in tensors:
        if tensor.dtype != torch.float32:
            raise ValueError(f"a search reads float32; table or bias is {tensor.dtype}")
        if not all(np.isfinite(float(bound)) for bound in tensor.aminmax()):
            raise ValueError("the item table or bias holds a value that is not finite")
    if not widths or not 1 <= min(widths) <= max(widths) <= table.emb_width:
        raise ValueError(
            f"widths {tuple(sorted(set(widths)))} are not within the table's "
            f"1..{table.emb_width} columns"
        )


def parts_of(
    table: ItemTable, bias_V: Tensor, widths: Sequence[int], *, index_from: int
) -> list[PartSearch]:
    """Return a search of every part of the table, each with its share of the bias."""
    bias_V = bias_V.detach()
    return [
        PartSearch(part, bias_V[part.start : part.stop], widths, index_from=index_from)
        for part in table.detach().parts
    ]

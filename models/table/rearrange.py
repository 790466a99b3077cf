"""The same embeddings in another layout: whole to blocks, or rows that moved to another block.

What is exact: a row that stays in its block keeps its numbers, bit for bit; one that moves to a
block without projection that is wide enough gets its embedding, and so does one whose embedding
lies in the new block's span. Everything else is nearest: by least squares under the block's own
projection, or the columns that a block without one keeps.
"""

# V rows, E embedding width, K rows of a block, R its width

from __future__ import annotations

import torch
from torch import Tensor

from models.table.layout import TableLayout
from models.table.table import ItemTable, TablePart, columns_of, kept_columns


@torch.no_grad()
def rearranged(
    before: ItemTable, rows_V: Tensor, vectors_VE: Tensor, layout: TableLayout
) -> ItemTable:
    """Return a table in `layout` of the embeddings `vectors_VE` (float32), all of it copies.

    `rows_V` int64 is each row's place in the table `before`, -1 for a row it does not have. A
    block of the same place and rank as before keeps its projection; another one's spans the
    directions in which its rows are largest (the best of its rank, by squared error).
    """
    parts = []
    for place, (start, block) in enumerate(zip(layout.starts, layout.blocks, strict=True)):
        wanted_KE = vectors_VE[start : block.stop]
        if not layout.projects(block, before.emb_width):
            kept_KR = kept_columns(wanted_KE, block).clone()
            parts.append(TablePart(start, kept_KR, columns_R=columns_of(block)))
            continue
        old = before.parts[place] if place < len(before.parts) else None
        if old is None or old.projection_RE is None or old.width != block.width:
            projection_RE = _main_directions(wanted_KE, block.width)
            parts.append(TablePart(start, wanted_KE @ projection_RE.T, projection_RE))
            continue
        projection_RE = old.projection_RE.clone()
        inverse_ER = torch.linalg.pinv(projection_RE.double()).float()
        rows_KR = wanted_KE @ inverse_ER
        rows_K = rows_V[start : block.stop]
        stays_K = (rows_K >= old.start) & (rows_K < old.stop)
        rows_KR[stays_K] = old.rows_NR[rows_K[stays_K] - old.start]
        parts.append(TablePart(start, rows_KR, projection_RE))
    return ItemTable(tuple(parts), before.emb_width)


def _main_directions(wanted_KE: Tensor, width: int) -> Tensor:
    """Return (width, E) orthonormal rows: the leading right singular vectors."""
    wide_KE = wanted_KE.double()
    _, vectors_EE = torch.linalg.eigh(wide_KE.T @ wide_KE)  # by rising eigenvalue
    directions_RE: Tensor = vectors_EE[:, -width:].flip(1).T.float().contiguous()
    return directions_RE

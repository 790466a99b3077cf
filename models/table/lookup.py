"""Rows to embeddings on plain arrays, for serving: `ItemTable.embed` with less around it."""

# V catalog rows with padding, E embedding width, D leading columns, N rows of a part, R numbers of
# its rows

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.table.table import ItemTable

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]


class RowLookup:
    """Calling it with int64 ids gives their embeddings, (*ids.shape, E) float32.

    The arrays are the table's own memory.
    """

    def __init__(self, table: ItemTable) -> None:
        from models.kernels.histories import embed

        self._embed = embed
        self._emb_width = table.emb_width
        self._dense_VE: Floats | None = table.dense().numpy() if table.is_dense else None
        self._stops = np.array([part.stop for part in table.parts])
        self._parts = [
            (
                part.start,
                part.rows_NR.numpy(),
                None if part.projection_RE is None else part.projection_RE.numpy(),
                None if part.columns_R is None else part.columns_R.numpy(),
            )
            for part in table.parts
        ]

    def embed(self, ids_BL: Ids, positions_LD: Floats) -> Floats:
        """Return embedded_BLD float32: each item's leading columns plus its position's.

        `ids_BL` int64, contiguous; no positions are an array of none of them, (0, D).
        """
        length, width = ids_BL.shape[1], positions_LD.shape[1]
        if self._dense_VE is not None:
            embedded_BLD: Floats = np.empty((*ids_BL.shape, width), dtype=np.float32)
            self._embed(self._dense_VE, positions_LD, ids_BL, embedded_BLD)
            return embedded_BLD
        embedded_BLD = self(ids_BL)[..., :width]
        if len(positions_LD):
            embedded_BLD += positions_LD[:length]
        return embedded_BLD

    def __call__(self, ids: Ids) -> Floats:
        """Return the embeddings."""
        if self._dense_VE is not None:
            return self._dense_VE.take(ids, axis=0)
        flat = ids.reshape(-1)
        out: Floats = np.zeros((len(flat), self._emb_width), dtype=np.float32)
        which = self._stops.searchsorted(flat, side="right")
        for place, (start, rows_NR, projection_RE, columns_R) in enumerate(self._parts):
            places = (which == place).nonzero()[0]
            if not len(places):
                continue
            found = rows_NR.take(flat.take(places) - start, axis=0)
            if projection_RE is not None:
                out[places] = found @ projection_RE
            elif columns_R is not None:
                out[places[:, None], columns_R] = found
            else:
                out[places, : rows_NR.shape[1]] = found
        return out.reshape(*ids.shape, self._emb_width)

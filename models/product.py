"""Queries times the whole item table, with the item bias: what small catalogs are scored by.

ONNX Runtime packs the table for its product once, which makes it up to three times as fast as
torch's on the tall and thin matrices here; the price is a second copy of the table.
"""

# B batch, E embedding width, V catalog rows with padding

from __future__ import annotations

import logging
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from models.arrays import Floats
from models.onnx_graph import Graph, session
from models.table.table import ItemTable
from models.table.tokens import BlockTokens

log = logging.getLogger(__name__)

_TOLERANCE = 1e-4
_TRIAL = 3  # queries on which both products must agree


class Product(Protocol):
    """Scores every row. For one thread at a time."""

    def __call__(self, query_BE: Floats) -> Floats:
        """Return scores_BV float32, contiguous and the caller's own, memory left out."""
        ...


class TorchProduct:
    """The product in torch, over the table's own memory, whatever its form."""

    def __init__(self, table: ItemTable, bias_V: Tensor, tokens: BlockTokens | None) -> None:
        self._table, self._bias_V, self._tokens = table, bias_V, tokens

    def __call__(self, query_BE: Floats) -> Floats:
        """Return scores_BV; see `Product`."""
        scores_BV = np.empty((len(query_BE), len(self._table)), dtype=np.float32)
        scores, query = torch.from_numpy(scores_BV), torch.from_numpy(query_BE)
        self._table.score_into(scores, query, self._bias_V)
        if self._tokens is not None:
            self._tokens.shift_into(self._table, scores, query)
        return scores_BV


class OnnxProduct:
    """The product in ONNX Runtime, over a packed copy of a table that is stored whole."""

    def __init__(self, table_VE: Tensor, bias_V: Tensor) -> None:
        rows, width = table_VE.shape
        graph = Graph()
        query = graph.input("query", ["B", width])
        self._outputs = [graph.gemm(query, table_VE, bias_V)]
        graph.output(self._outputs[0], ["B", rows])
        self._session = session(graph.model("product"))

    def __call__(self, query_BE: Floats) -> Floats:
        """Return scores_BV; see `Product`."""
        scores_BV: Floats = self._session.run(self._outputs, {"query": query_BE})[0]
        return scores_BV


def make_product(
    table: ItemTable, bias_V: Tensor, tokens: BlockTokens | None = None, *, packed: bool
) -> Product:
    """Return the product of this table and bias, float32; neither may change.

    `tokens` are those of a two-level head, at the table's width.

    `packed` asks for ONNX Runtime's, which a table that is not stored whole cannot have. Where it
    cannot be built or disagrees with torch's, that one is returned and a warning logged.
    """
    plain = TorchProduct(table, bias_V, tokens)
    if not packed or not table.is_dense:
        return plain
    shape = (_TRIAL, table.emb_width)
    query_BE = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    try:
        product = OnnxProduct(table.parts[0].rows_NR, bias_V)
        expected_BV = plain(query_BE)
        scale = max(1.0, float(np.abs(expected_BV).max()))
        difference = float(np.abs(product(query_BE) - expected_BV).max()) / scale
    except Exception:
        log.warning("ONNX Runtime refused the item table; torch multiplies it", exc_info=True)
        return plain
    if not difference <= _TOLERANCE:
        log.warning("ONNX Runtime's scores differ from torch's by %.2g; torch serves", difference)
        return plain
    return product

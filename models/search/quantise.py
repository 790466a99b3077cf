"""The table once more in 4 bits per column: small enough to scan, with its error known.

Column e of row n is held as a level c in 0..15 and read back as

    row_scale[n] * column_scale[e] * (c - 7.5)

Rows stand in blocks of BLOCK_ROWS. Inside a block, byte [p, r] holds columns 2p (low half) and
2p + 1 (high half) of the block's row r, so neighbouring rows lie beside each other for vector
instructions, and the leading columns of a block are its leading bytes: one index serves every
embedding width, each reading only its own share.

How far a row read back lies from the true one is measured when the index is built, for every
width that is served, and bounds the error of any query (`kernel.py`).
"""

# V rows, E columns, P byte rows = ceil(E / 2), R rows of a block, K blocks, W widths

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.search.exact import Floats

BLOCK_ROWS = 256
MIDDLE = 7.5
_LEAST_SCALE = 1e-30
_BLOCKS_AT_ONCE = 256
_UP = np.float64(1 + 1e-6)  # more than float32 can lose: a bound is rounded up, never down


@dataclass(frozen=True, slots=True, kw_only=True)
class NibbleTable:
    """A quantised table. Bounds stand per width and block and are upper bounds."""

    codes_KPR: NDArray[np.uint8]
    row_scale_V: Floats
    column_scale_E: Floats
    widths: tuple[int, ...]
    error_WK: Floats
    """Largest |row - row read back| / row_scale."""
    length_WK: Floats
    """Largest |levels - 7.5|."""
    norm_WK: Floats
    """Largest |row|."""
    scale_K: Floats
    """Largest row scale."""
    bias_K: Floats
    """Largest item bias."""

    @property
    def num_bytes(self) -> int:
        """Resident bytes of the index; the float32 table is not among them."""
        arrays = (
            self.codes_KPR,
            self.row_scale_V,
            self.column_scale_E,
            self.error_WK,
            self.length_WK,
            self.norm_WK,
            self.scale_K,
            self.bias_K,
        )
        return sum(array.nbytes for array in arrays)


def index_bytes(rows: int, columns: int, widths: int) -> int:
    """Return `num_bytes` of the index of a table of this size for so many query widths."""
    blocks = -(-rows // BLOCK_ROWS)
    codes = blocks * BLOCK_ROWS * ((columns + 1) // 2)
    return codes + 4 * (rows + columns + blocks * (3 * widths + 2))


def quantise(table_VE: Floats, bias_V: Floats, widths: Sequence[int]) -> NibbleTable:
    """Return the index of `table_VE` for queries of these widths, each 1..E; needs O(1) extra."""
    rows, columns = table_VE.shape
    ordered = tuple(sorted(set(widths)))
    if not ordered or not 1 <= ordered[0] <= ordered[-1] <= columns:
        raise ValueError(f"widths {ordered} are not within the table's 1..{columns} columns")
    blocks = -(-rows // BLOCK_ROWS)
    codes = np.empty((blocks, (columns + 1) // 2, BLOCK_ROWS), dtype=np.uint8)
    row_scale = np.empty(rows, dtype=np.float32)
    column_scale = _column_scale(table_VE)
    bounds = np.empty((3, len(ordered), blocks), dtype=np.float32)
    for first in range(0, blocks, _BLOCKS_AT_ONCE):
        last = min(first + _BLOCKS_AT_ONCE, blocks)
        part = slice(first * BLOCK_ROWS, min(last * BLOCK_ROWS, rows))
        row_scale[part] = _quantise_part(
            table_VE[part], column_scale, ordered, codes[first:last], bounds[:, :, first:last]
        )
    return NibbleTable(
        codes_KPR=codes,
        row_scale_V=row_scale,
        column_scale_E=column_scale,
        widths=ordered,
        error_WK=bounds[0],
        length_WK=bounds[1],
        norm_WK=bounds[2],
        scale_K=_block_max(row_scale),
        bias_K=_block_max(bias_V),
    )


def _block_max(values_V: Floats) -> Floats:
    return np.maximum.reduceat(values_V, np.arange(0, len(values_V), BLOCK_ROWS))


def _column_scale(table_VE: Floats) -> Floats:
    squares = np.zeros(table_VE.shape[1])
    step = BLOCK_ROWS * _BLOCKS_AT_ONCE
    for start in range(0, len(table_VE), step):
        part = table_VE[start : start + step].astype(np.float64)
        squares += np.einsum("ne,ne->e", part, part)
    scale: Floats = np.sqrt(squares / len(table_VE)).astype(np.float32)
    scale[scale < _LEAST_SCALE] = 1.0
    return scale


def _quantise_part(
    part_NE: Floats,
    column_scale: Floats,
    widths: Sequence[int],
    codes_KPR: NDArray[np.uint8],
    bounds_3WK: Floats,
) -> Floats:
    rows, columns = part_NE.shape
    blocks, pairs, _ = codes_KPR.shape
    true = part_NE.astype(np.float64)
    even = true / column_scale
    largest = np.abs(even).max(axis=1) / MIDDLE
    scale: Floats = np.maximum(largest, _LEAST_SCALE).astype(np.float32)
    level = np.clip(np.rint(even / scale[:, None] + MIDDLE), 0, 15)
    offset = level - MIDDLE
    residual = true - offset * column_scale * scale[:, None].astype(np.float64)
    wide = np.zeros((blocks * BLOCK_ROWS, 2 * pairs), dtype=np.uint8)
    wide[:rows, :columns] = level
    packed = wide[:, 0::2] | (wide[:, 1::2] << 4)
    codes_KPR[:] = packed.reshape(blocks, BLOCK_ROWS, pairs).transpose(0, 2, 1)
    for place, width in enumerate(widths):
        measures = (
            np.linalg.norm(residual[:, :width], axis=1) / scale,
            np.linalg.norm(offset[:, :width], axis=1),
            np.linalg.norm(true[:, :width], axis=1),
        )
        for bound_WK, measure in zip(bounds_3WK, measures, strict=True):
            padded = np.zeros(blocks * BLOCK_ROWS)
            padded[:rows] = measure
            bound_WK[place] = padded.reshape(blocks, BLOCK_ROWS).max(axis=1) * _UP
    return scale

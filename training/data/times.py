"""Timestamps of any usual kind as milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from training.data.errors import DataError

# 9999-12-31T23:59:59.999Z: what lies beyond is a mistake, such as milliseconds among seconds.
LATEST_MS = 253_402_300_799_999
# Numbers this small are positions in a sequence: as seconds they would end in April 1970.
POSITION_LIMIT = 10_000_000

_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$"


def parse_times(
    column: pa.Array | pa.ChunkedArray,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return (values, exact): numbers as they stand, or milliseconds where `exact` is true.

    Both have shape (rows,). A value that is no time is NaN. Times without a zone are UTC.

    Raises:
        DataError: the column's type holds no times.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    kind = column.type
    if pa.types.is_dictionary(kind):
        return parse_times(column.dictionary_decode())
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        values = _to_float(column.cast(pa.float64(), safe=False))
        return values, np.zeros(len(values), dtype=np.bool_)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        stamps = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
        values = np.floor(_to_float(stamps.cast(pa.float64(), safe=False)) / 1000)
        return values, np.ones(len(values), dtype=np.bool_)
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan), np.zeros(len(column), dtype=np.bool_)
    if _is_text(kind):
        return _parse_texts(column)
    raise DataError(f"a timestamp column cannot have type {kind}")


def unit_scale(values: NDArray[np.float64], exact: NDArray[np.bool_]) -> float:
    """Return what turns the inexact values into milliseconds, told by their median's size.

    Below 1e11 they are seconds (or positions), below 1e14 milliseconds, below 1e17
    microseconds, else nanoseconds.
    """
    numbers = values[~exact & np.isfinite(values)]
    if not len(numbers):
        return 1.0
    middle = float(np.median(numbers))
    for limit, scale in ((1e11, 1000.0), (1e14, 1.0), (1e17, 1e-3)):
        if middle < limit:
            return scale
    return 1e-6


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    )


def _to_float(column: pa.Array) -> NDArray[np.float64]:
    filled = pc.fill_null(column, float("nan"))
    values: NDArray[np.float64] = filled.to_numpy(zero_copy_only=False).astype(np.float64)
    values[~np.isfinite(values)] = np.nan
    return values


def _parse_texts(column: pa.Array) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    values = np.full(len(column), np.nan)
    exact = np.zeros(len(column), dtype=np.bool_)
    try:
        texts = pc.utf8_trim_whitespace(column.cast(pa.large_string()))
    except pa.ArrowInvalid:  # bytes that are no UTF-8: slow, but row by row
        decoded = [_decode(value) for value in column.to_pylist()]
        texts = pc.utf8_trim_whitespace(pa.array(decoded, type=pa.large_string()))
    numeric = pc.fill_null(pc.match_substring_regex(texts, _NUMBER), False)
    where = numeric.to_numpy(zero_copy_only=False)
    values[where] = _to_float(texts.filter(numeric).cast(pa.float64()))
    rest = np.flatnonzero(~where)
    for row, text in zip(rest, texts.take(pa.array(rest)).to_pylist(), strict=True):
        values[row] = _parse_date(text)
        exact[row] = True
    return values, exact


def _parse_date(text: str | None) -> float:
    # fromisoformat takes bare compact dates as well, but those look like numbers and
    # were read as numbers.
    if not text or len(text) > 64:
        return float("nan")
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return float(np.floor(moment.timestamp() * 1000))
    except (ValueError, OverflowError):
        return float("nan")


def _decode(value: Any) -> str | None:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value

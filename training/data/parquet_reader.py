"""Interactions from Parquet: one file, or a directory of parts."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from training.data.columns import ColumnNames, Columns, resolve_columns
from training.data.errors import DataError
from training.data.rows import BadRow, Chunk, RowCollector
from training.data.text_format import Progress

_BATCH_ROWS = 1 << 20
# A few bytes can stand for billions of equal rows, which would be held in full. Files of real
# interactions have a byte a row or more; as much as zipped text can hold is let through.
_MOST_ROWS_PER_BYTE = 256


def parquet_parts(directory: Path) -> list[Path]:
    """Return the `.parquet` files below `directory`, sorted by relative path.

    Names that start with `_` or `.`, folders included, are left out: they are markers and
    files still being written.

    Raises:
        DataError: there are none.
    """
    parts = sorted(
        (path.relative_to(directory).parts, path)
        for path in directory.rglob("*.parquet")
        if path.is_file() and not any(part[0] in "_." for part in path.relative_to(directory).parts)
    )
    if not parts:
        raise DataError(f"{directory} holds no .parquet files")
    return [path for _, path in parts]


def read_parquet(
    parts: list[Path],
    root: Path,
    names: ColumnNames,
    collector: RowCollector,
    on_progress: Progress | None,
) -> Columns:
    """Hand the rows of all parts, in order, to `collector` and return the columns read.

    Raises:
        DataError: a part lacks the columns, or holds far more rows than bytes.
        OSError, pyarrow.ArrowException: reading failed.
    """
    total = sum(path.stat().st_size for path in parts)
    done = 0
    columns: Columns | None = None
    for path in parts:
        label = path.name if path == root else path.relative_to(root).as_posix()
        size = path.stat().st_size
        with pq.ParquetFile(path) as file:
            here = resolve_columns(file.schema_arrow.names, names, label)
            columns = columns or here
            _check_types(file.schema_arrow, here, label)
            row = 0
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=here.names):
                collector.add(
                    Chunk(
                        file=label,
                        first_row=row,
                        users=batch.column(here.user),
                        items=batch.column(here.item),
                        times=batch.column(here.timestamp) if here.timestamp else None,
                    )
                )
                row += batch.num_rows
                if row > size * _MOST_ROWS_PER_BYTE:
                    raise DataError(
                        f"{label} holds more than {row:,} rows in {size:,} bytes, which files of "
                        "interactions never do; write it again without repeated rows"
                    )
                if on_progress is not None:
                    on_progress(done + size * row // max(1, file.metadata.num_rows), total)
        done += size
    assert columns is not None
    return columns


def bad_examples(collector: RowCollector) -> list[BadRow]:
    """Return the refused rows; their numbers count rows of their file from 1."""
    return [
        BadRow(file=row.file, line=row.row + 1, reason=row.reason, text=row.text)
        for row in collector.refused
    ]


def _check_types(schema: pa.Schema, columns: Columns, where: str) -> None:
    for name in (columns.user, columns.item):
        kind = schema.field(name).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if not (
            pa.types.is_integer(kind)
            or pa.types.is_floating(kind)
            or pa.types.is_string(kind)
            or pa.types.is_large_string(kind)
            or pa.types.is_binary(kind)
            or pa.types.is_null(kind)
        ):
            raise DataError(f"{where}: column {name!r} of type {kind} cannot hold ids")

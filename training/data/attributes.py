"""Item attributes (title, genres, ...) from a text or Parquet file."""

from __future__ import annotations

import csv
import math
import zlib
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from training.data.columns import ITEM_NAMES, detect, find_column, plain
from training.data.errors import DataError
from training.data.rows import clean_id
from training.data.text_format import sniff_table

# Common names and what they are called here.
_RENAMED = {"movietitle": "title", "name": "title", "class": "genres", "genre": "genres"}
# Text columns that hold lists, if the file does not say so by its types.
_LISTS = frozenset({"genres", "tags", "categories"})
_MAX_TEXT = 1000


def read_item_attributes(path: Path | str, *, item: str | None = None) -> dict[str, dict[str, Any]]:
    """Return {external id: attributes}; empty values are left out, the first row of an id counts.

    Values are strings of at most 1000 characters, finite numbers, booleans or lists of strings.
    Genres, tags and categories in text are split at `|`; RecBole's `token_seq` at spaces, but
    titles stay whole.

    Args:
        path: Parquet, or text with a header.
        item: the column of ids; None detects common names.

    Raises:
        DataError: unreadable, no such column, or no usable row.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    try:
        if path.suffix.lower() in {".parquet", ".pq"}:
            fields, rows = _parquet_rows(path)
        else:
            fields, rows = _text_rows(path)
        if item is not None:
            key = find_column(fields, item, "item", path.name)
        else:
            found = detect(fields, ITEM_NAMES)
            if found is None:
                raise DataError(
                    f"{path.name}: cannot tell which column holds the item; name it. "
                    f"Columns found: {', '.join(fields)}"
                )
            key = found
        names = {field: _name(field) for field in fields if field != key}
        attributes: dict[str, dict[str, Any]] = {}
        for row in rows:
            external, _ = clean_id(row.get(key))
            if external is not None and external not in attributes:
                values = ((names[f], _value(f, names[f], row.get(f))) for f in names)
                attributes[external] = {name: value for name, value in values if value is not None}
    except DataError:
        raise
    except (OSError, EOFError, zlib.error, pa.ArrowException, csv.Error, ValueError) as error:
        raise DataError(f"cannot read {path.name}: {error}") from error
    if not attributes:
        raise DataError(f"{path.name} has no usable row")
    return attributes


def _parquet_rows(path: Path) -> tuple[list[str], Iterator[dict[str, Any]]]:
    file = pq.ParquetFile(path)

    def rows() -> Iterator[dict[str, Any]]:
        with file:
            for batch in file.iter_batches(batch_size=65_536):
                yield from batch.to_pylist()

    return list(file.schema_arrow.names), rows()


def _text_rows(path: Path) -> tuple[list[str], Iterator[dict[str, Any]]]:
    fields, rows = sniff_table(path)
    return fields, (dict(zip(fields, row, strict=False)) for row in rows)


def _name(field: str) -> str:
    bare = field.split(":", 1)[0].strip()
    return _RENAMED.get(plain(bare), bare)


def _value(field: str, name: str, value: Any) -> Any:
    if isinstance(value, str):
        text = value.strip()
        if field.endswith(":float"):
            return _number(text)
        if field.endswith(":token_seq") and name != "title":
            return text.split()[:_MAX_TEXT] or None
        if name in _LISTS:
            return [part.strip() for part in text.split("|") if part.strip()] or None
        return text[:_MAX_TEXT] or None
    if isinstance(value, list):
        return [str(part)[:_MAX_TEXT] for part in value if part is not None] or None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime | date):
        return value.isoformat()
    return value if isinstance(value, int) else None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None

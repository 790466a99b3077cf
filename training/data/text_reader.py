"""Interactions from text: any separator, header or none, gzip or not, with line numbers."""

from __future__ import annotations

import csv
import io
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv as arrow_csv

from training.data.columns import ColumnNames
from training.data.loan import Loan
from training.data.rows import MAX_SHOWN, BadRow, Chunk, Refused, RowCollector, Rows
from training.data.text_format import Progress, SourceStream, TextFormat, sniff

_BLOCK_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class TextResult:
    """What `read_text` saw besides the good rows."""

    format: TextFormat
    bad_rows: int
    total_rows: int
    examples: list[BadRow]


def read_text(
    path: Path, names: ColumnNames, collector: RowCollector, on_progress: Progress | None
) -> tuple[TextResult, Rows]:
    """Return what was bad, with line numbers, and the good rows, which go through `collector`.

    Raises:
        DataError: the file is not such a text.
        OSError, EOFError, zlib.error, pyarrow.ArrowException: reading failed.
    """
    text_format = sniff(path, names)
    malformed = _Malformed(expected=len(text_format.fields))
    with SourceStream(path, separator=text_format.separator, on_progress=on_progress) as stream:
        for chunk in _chunks(path.name, stream, text_format, malformed):
            collector.add(chunk)
    rows = collector.finish()
    refused = collector.refused
    blank = [row for row in refused if row.blank]
    lines = _Lines(malformed.records, first=text_format.skipped_lines + 1)
    wanted = {lines.record(row.row) for row in refused} | {n for n, _, _ in malformed.shown}
    located = _locate(path, text_format, wanted) if wanted else {}
    empty_lines = sum(located.get(lines.record(row.row), (0, True))[1] for row in blank)
    examples = [
        _example(path.name, row, lines.record(row.row), located)
        for row in refused
        if not (row.blank and located.get(lines.record(row.row), (0, True))[1])
    ]
    examples += [
        BadRow(
            file=path.name,
            line=located.get(record, (record, False))[0],
            reason=reason,
            text=text,
        )
        for record, reason, text in malformed.shown
    ]
    examples.sort(key=lambda row: row.line)
    result = TextResult(
        format=text_format,
        bad_rows=collector.bad + len(malformed.records) - empty_lines,
        total_rows=collector.total + len(malformed.records) - empty_lines,
        examples=examples[:MAX_SHOWN],
    )
    return result, rows


class _Malformed:
    """Rows with too few or too many fields, as the parser meets them."""

    def __init__(self, *, expected: int) -> None:
        self.expected = expected
        self.records = array("q")  # numbers counted from 1, header included, rising
        self.shown: list[tuple[int, str, str]] = []

    def __call__(self, row: Any) -> str:
        self.records.append(row.number)
        if len(self.shown) < MAX_SHOWN:
            text = row.text.replace("\x1f", "::")
            text = text if len(text) <= 120 else text[:117] + "..."
            reason = f"{row.actual_columns} fields instead of {self.expected}"
            self.shown.append((row.number, reason, repr(text)))
        return "skip"


class _Lines:
    """From the number of a parsed row to its record in the file, malformed ones counted."""

    def __init__(self, malformed: array[int], *, first: int) -> None:
        self._malformed = malformed
        self._first = first

    def record(self, row: int) -> int:
        """Return the record number, from 1, of parsed row `row`, from 0."""
        record = row + self._first
        while True:
            moved = row + self._first + bisect_right(self._malformed, record)
            if moved == record:
                return record
            record = moved


def _chunks(
    file: str, stream: SourceStream, text_format: TextFormat, malformed: _Malformed
) -> Iterator[Chunk]:
    columns = text_format.columns
    # Bytes, not text: one bad byte must cost a row, not the file. Ids as dictionaries: few
    # distinct values, so checking them costs little.
    ids = pa.dictionary(pa.int32(), pa.binary())
    types = {columns.user: ids, columns.item: ids}
    if columns.timestamp is not None:
        types[columns.timestamp] = pa.binary()
    with Loan(stream) as loan:
        reader = arrow_csv.open_csv(
            loan.file(),
            read_options=arrow_csv.ReadOptions(
                use_threads=False,  # only then are malformed rows numbered
                block_size=_BLOCK_BYTES,
                skip_rows=text_format.skipped_lines,
                column_names=list(text_format.fields),
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=text_format.byte_separator,
                quote_char='"' if text_format.quoted else False,
                newlines_in_values=text_format.quoted,
                ignore_empty_lines=False,  # they count as lines
                invalid_row_handler=malformed,
            ),
            convert_options=arrow_csv.ConvertOptions(
                check_utf8=False,
                column_types=types,
                include_columns=columns.names,
                strings_can_be_null=False,
            ),
        )
        first_row = 0
        try:
            for batch in reader:
                yield Chunk(
                    file=file,
                    first_row=first_row,
                    users=batch.column(0),
                    items=batch.column(1),
                    times=batch.column(2) if columns.timestamp is not None else None,
                )
                first_row += batch.num_rows
        finally:
            del reader  # the loan ends with what it was for


def _example(file: str, row: Refused, record: int, located: dict[int, tuple[int, bool]]) -> BadRow:
    line = located.get(record, (record, False))[0]
    return BadRow(file=file, line=line, reason=row.reason, text=row.text)


def _locate(
    path: Path, text_format: TextFormat, records: Iterable[int]
) -> dict[int, tuple[int, bool]]:
    """Return {record: (its first line, whether the line is empty)}.

    A quoted field may span lines, so only a second pass can tell lines from records.
    """
    wanted = set(records)
    last = max(wanted)
    found: dict[int, tuple[int, bool]] = {}
    with (
        SourceStream(path, separator=text_format.separator, on_progress=None) as stream,
        io.TextIOWrapper(
            io.BufferedReader(stream), encoding="utf-8-sig", errors="replace", newline=""
        ) as text,
    ):
        reader = csv.reader(
            text,
            delimiter=text_format.byte_separator,
            quoting=csv.QUOTE_MINIMAL if text_format.quoted else csv.QUOTE_NONE,
        )
        line = 1
        try:
            for record, fields in enumerate(reader, start=1):
                if record in wanted:
                    found[record] = (line, len(fields) < 2 and not "".join(fields).strip())
                if record >= last:
                    break
                line = reader.line_num + 1
        except csv.Error:  # a field too long for this parser: record numbers must do
            pass
    return found

"""What a text file of interactions looks like: separator, header, quotes."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from training.data.columns import (
    ITEM_NAMES,
    USER_NAMES,
    ColumnNames,
    Columns,
    detect,
    resolve_columns,
    resolve_without_header,
)
from training.data.errors import DataError
from training.data.rows import SUBSTITUTE

Progress = Callable[[int, int], None]  # (done, total), in bytes or in rows

# Best first: a separator of two characters is no accident, a space often is.
SEPARATORS = ("::", "\t", ",", ";", "|", " ")
SEPARATOR_NAMES = {"::": "::", "\t": "tab", ",": "comma", ";": "semicolon", "|": "|", " ": "space"}
_SAMPLE_BYTES = 256 * 1024
_SAMPLE_LINES = 50
# Stands for `::` while parsing, since the parser takes one byte. In the data it would be a
# control character, hence a bad id, so it is turned into another control character there.
_UNIT_SEPARATOR = b"\x1f"
_ESCAPED = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFormat:
    """How to read one text file."""

    separator: str
    quoted: bool
    skipped_lines: int  # up to and with the header; 0 without one
    fields: tuple[str, ...]
    columns: Columns

    @property
    def byte_separator(self) -> str:
        """The separator as the parser sees it."""
        return _UNIT_SEPARATOR.decode() if self.separator == "::" else self.separator

    def __str__(self) -> str:
        header = "with" if self.skipped_lines else "without"
        return f"text separated by {SEPARATOR_NAMES[self.separator]}, {header} header"


class SourceStream(io.RawIOBase):
    """The bytes of a file, unzipped; reports what was read.

    With a separator they are made fit for the parser: `::` becomes one byte, and every byte
    that is no UTF-8 becomes SUBSTITUTE, since the parser loses malformed rows that it cannot
    decode.
    """

    def __init__(self, path: Path, *, separator: str, on_progress: Progress | None) -> None:
        super().__init__()
        self._raw = path.open("rb")
        self._total = path.stat().st_size
        zipped = self._raw.read(2) == b"\x1f\x8b"
        self._raw.seek(0)
        self._data = gzip.GzipFile(fileobj=self._raw) if zipped else self._raw
        self._clean = bool(separator)
        self._double = separator == "::"
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._held = b""  # a colon that may be the first of two
        self._on_progress = on_progress

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes (all of them if negative), b"" only at the end."""
        while True:
            waiting = len(self._held) + len(self._decoder.getstate()[0])
            data = self._data.read(max(1, size - waiting) if size >= 0 else -1)
            if self._on_progress is not None:
                self._on_progress(min(self._raw.tell(), self._total), self._total)
            if not self._clean:
                return data
            ended = not data
            data = self._decoded(data)
            if self._double:
                data, self._held = self._held + data, b""
                # The last of an odd run of colons may pair with the first of the next piece.
                if (len(data) - len(data.rstrip(b":"))) % 2 and not ended:
                    data, self._held = data[:-1], b":"
                data = data.replace(_UNIT_SEPARATOR, SUBSTITUTE.encode())
                data = data.replace(b"::", _UNIT_SEPARATOR)
            if data or ended:
                return data

    def _decoded(self, data: bytes) -> bytes:
        if data.isascii() and not self._decoder.getstate()[0]:
            return data
        text = self._decoder.decode(data, final=not data)
        return _ESCAPED.sub(SUBSTITUTE, text).encode("utf-8")

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill `buffer` from the front; return the bytes written, 0 at the end."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._data.close()
            self._raw.close()
        super().close()


def sniff(path: Path, names: ColumnNames) -> TextFormat:
    """Return the format of a text file, judged by its first lines and its name.

    Raises:
        DataError: the file is empty, is no UTF-8 text, or its columns cannot be told.
    """
    lines, leading, separator, quoted = _layout(path)
    rows = [split_line(line, separator, quoted=quoted) for line in lines]
    first = rows[0]
    if _has_header(first, names):
        columns = resolve_columns(first, names, path.name)
        fields, skipped = tuple(first), leading + 1
    else:
        fields, skipped = tuple(f"column_{i}" for i in range(1, len(first) + 1)), 0
        if names.given:
            columns = resolve_columns(fields, names, path.name)
        else:
            columns = resolve_without_header(len(first), rows, path.name)
    if len(set(fields)) != len(fields):
        twice = Counter(fields).most_common(1)[0][0]
        raise DataError(f"{path.name}: column {twice!r} stands twice in the header")
    return TextFormat(
        separator=separator,
        quoted=quoted,
        skipped_lines=skipped,
        fields=fields,
        columns=columns,
    )


def sniff_table(path: Path) -> tuple[list[str], Iterator[list[str]]]:
    """Return (header, rows) of a text table with a header; rows of another width included.

    Raises:
        DataError: the file is empty or UTF-16.
    """
    lines, leading, separator, quoted = _layout(path)
    fields = split_line(lines[0], separator, quoted=quoted)

    def rows() -> Iterator[list[str]]:
        with SourceStream(path, separator="", on_progress=None) as stream:
            raw = stream.read()
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = raw.decode("latin-1")  # older files, such as MovieLens titles
        table: Iterator[list[str]]
        if quoted:
            table = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        else:
            table = (line.split(separator) for line in _lines(text))
        yield from itertools.islice(table, leading + 1, None)

    return fields, rows()


def split_line(line: str, separator: str, *, quoted: bool) -> list[str]:
    """Return the fields of one line, stripped."""
    if not quoted:
        return [part.strip() for part in line.split(separator)]
    try:
        return [part.strip() for part in next(csv.reader([line], delimiter=separator))]
    except (csv.Error, StopIteration):
        return [line]


def _layout(path: Path) -> tuple[list[str], int, str, bool]:
    """Return (first lines that are not blank, blank ones before, separator, quotes count)."""
    every = _lines(_sample(path))
    lines = [line for line in every if line.strip()][:_SAMPLE_LINES]
    if not lines:
        raise DataError(f"{path.name} is empty")
    leading = next(place for place, line in enumerate(every) if line.strip())
    suffix = path.name.removesuffix(".gz").rpartition(".")[2].lower()
    tabbed = suffix in {"inter", "tsv", "item"} and "\t" in lines[0]
    separator = "\t" if tabbed else _best_separator(lines)
    quoted = separator in {",", ";"}
    if separator in {"\t", "|"}:
        # Such files rarely quote, and a stray quote would swallow the lines up to the next.
        edge = re.compile(rf'(^|{re.escape(separator)})"[^"]*"({re.escape(separator)}|$)')
        marked = [line for line in lines if '"' in line]
        quoted = bool(marked) and all(edge.search(line) for line in marked)
    return lines, leading, separator, quoted


def _lines(text: str) -> list[str]:
    """Return the lines as the parser counts them; str.splitlines knows more line ends."""
    return re.split(r"\r\n|\n|\r", text)


def _sample(path: Path) -> str:
    with SourceStream(path, separator="", on_progress=None) as stream:
        raw = stream.read(_SAMPLE_BYTES)
    if raw[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        raise DataError(f"{path.name} is UTF-16 text; save it as UTF-8")
    if raw[:4] == b"PAR1":
        raise DataError(f"{path.name} is a Parquet file; let its name end in .parquet")
    # A cut may fall into a character, and bad bytes later count as bad rows: replace them.
    text = raw.decode("utf-8-sig", "replace")
    return text if len(raw) < _SAMPLE_BYTES else text.rpartition("\n")[0] or text


def _best_separator(lines: list[str]) -> str:
    """Return the separator that splits the most lines alike, the better one on a tie."""
    best, best_share = ",", 0.0
    bare = [re.sub(r'"[^"]*"', "", line) for line in lines]
    for separator in SEPARATORS:
        counts = Counter(line.count(separator) for line in bare)
        share = max((n / len(bare) for count, n in counts.items() if count > 0), default=0.0)
        if share > best_share:
            best, best_share = separator, share
    return best


def _has_header(first: list[str], names: ColumnNames) -> bool:
    if any(re.fullmatch(r"column_[0-9]+", name) for name in names.given):
        return any(name in first for name in names.given)
    bare = [field.split(":", 1)[0] for field in first]
    if any(name in first or name in bare for name in names.given):
        return True
    if detect(first, USER_NAMES) is not None or detect(first, ITEM_NAMES) is not None:
        return True
    # Names are words: a field that is a number means data.
    return not any(re.fullmatch(r"[+-]?[0-9]+(\.[0-9]+)?", field) for field in first)

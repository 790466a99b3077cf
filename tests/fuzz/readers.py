"""Files of any bytes for the readers of interactions and attributes: an error of ours, or data.

An input is two bytes that choose reader and options, then the file. `seeds` are whole files of
every format, for a fuzzer to start from.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from training.data.attributes import read_item_attributes
from training.data.columns import ColumnNames
from training.data.errors import DataError
from training.data.interactions import read_interactions

# What a file is called decides how it is read.
NAMES = (
    *("x.csv", "x.tsv", "x.inter", "x.dat", "x.txt", "x.csv.gz", "x.parquet"),
    *("i.csv", "i.item", "i.parquet"),
)
_COLUMNS = (None, ColumnNames(user="column_1", item="column_2"), ColumnNames(timestamp="time"))
_LONGEST_MESSAGE = 20_000

_TEXTS: Sequence[tuple[str, bytes]] = (
    ("x.csv", b"user_id,item_id,timestamp\nu1,i1,1600000000\nu1,i2,1600000001\nu2,i1,2020-01-02\n"),
    ("x.csv", b'user;item;time\n"a;b";"c\nd";1\n\n;;\nu;i;2\n'),
    ("x.tsv", b"u1\ti1\t5\t1600000000000\nu2\ti2\t3\t1600000000001\n"),
    ("x.dat", b"1::10::5::978300760\n1::20::3::978302109\n2::10::4::978301968\n"),
    ("x.inter", b"user_id:token\titem_id:token\ttimestamp:float\nu\ti\t1.5e9\nv\tj\tnan\n"),
    ("x.txt", b"1 10\n1 20\n2 10\n"),
    ("x.txt", b"user|item|time\na|b|1\n\xffa|b|1e400\na|\x00|inf\n\xef\xbb\xbfa|b|-1\n"),
    ("x.csv.gz", gzip.compress(b"user,item,time\nu,i,1\nu,j,2\n", mtime=0)),
    ("i.csv", b'item_id,title,genres\ni1,Title one,a|b\ni2,"Two, too",\n'),
    ("i.item", b"item_id:token\ttitle:token_seq\tyear:float\ni1\tA B\t1999\n"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """One whole file."""

    name: str
    content: bytes

    def encoded(self) -> bytes:
        """Return it as an input of `one_input`."""
        return bytes((NAMES.index(self.name), 0)) + self.content


def seeds() -> list[Seed]:
    """Return whole files of every format."""
    found = [Seed(name=name, content=content) for name, content in _TEXTS]
    columns: Sequence[tuple[str, dict[str, pa.Array]]] = (
        ("x.parquet", _interactions(pa.int64())),
        ("x.parquet", _interactions(pa.timestamp("us"))),
        ("x.parquet", _interactions(pa.string())),
        ("i.parquet", {"item_id": pa.array(["i1"]), "genres": pa.array([["a", None]])}),
    )
    for name, arrays in columns:
        for compression in ("none", "snappy"):
            out = io.BytesIO()
            pq.write_table(pa.table(arrays), out, compression=compression)
            found.append(Seed(name=name, content=out.getvalue()))
    return found


def _interactions(times: pa.DataType) -> dict[str, pa.Array]:
    return {
        "user_id": pa.array(["u1", "u1", "u2"]).dictionary_encode(),
        "item_id": pa.array([1, 2, 1]),
        "timestamp": pa.array([1_600_000_000, 1_600_000_001, 5]).cast(times),
    }


def one_input(data: bytes, directory: Path) -> bool:
    """Read one input; True where it held data.

    Anything raised here is a fault of a reader: it lets through what is no DataError, or returns
    what does not fit together.
    """
    if len(data) < 2:
        return False
    name, options = NAMES[data[0] % len(NAMES)], data[1]
    path = directory / name
    path.write_bytes(gzip.compress(data[2:], 1) if _zipped(name, options) else data[2:])
    try:
        if name.startswith("i."):
            return bool(read_item_attributes(path))
        found = read_interactions(
            path,
            _COLUMNS[options % len(_COLUMNS)],
            strict=options & 64 != 0,
            drop_duplicates=options & 32 != 0,
            min_user_interactions=1 + (options >> 3) % 3,
        )
    except DataError as error:
        if not 0 < len(str(error)) < _LONGEST_MESSAGE:
            raise AssertionError("no message for a person") from error
        return False
    report = found.report
    assert len(found) == report.rows == len(found.item_codes) == len(found.timestamps) > 0
    assert report.rows + report.dropped_rows + report.bad_rows == report.total_rows
    assert found.timestamps.min() >= 0
    assert found.user_codes.max() < found.num_users == len(set(found.user_ids))
    assert found.item_codes.max() < found.num_items == len(set(found.item_ids))
    assert report.summary()
    return True


def _zipped(name: str, options: int) -> bool:
    """Whether the content is to be zipped first: a broken archive hides what is in it."""
    return name.endswith(".gz") and options & 128 != 0


@st.composite
def inputs(draw: st.DrawFn) -> bytes:
    """A seed with a few pieces of it cut out, doubled, overwritten or moved; or just bytes."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(min_size=2, max_size=400))
    data = bytearray(draw(st.sampled_from(seeds())).encoded())
    data[1] = draw(st.integers(0, 255))
    if draw(st.integers(0, 9)) == 0:
        data[0] = draw(st.integers(0, 255))
    for _ in range(draw(st.integers(0, 6))):
        start = draw(st.integers(2, len(data)))
        end = draw(st.integers(start, min(len(data), start + draw(st.integers(0, 16)))))
        piece = draw(
            st.sampled_from(PIECES) | st.binary(max_size=8) | st.just(bytes(data[start:end] * 2))
        )
        data[start:end] = piece
    return bytes(data)


PIECES: Sequence[bytes] = (
    *(
        b"\n",
        b"\r",
        b"\r\n",
        b'"',
        b'""',
        b",",
        b"\t",
        b"::",
        b":",
        b";",
        b"|",
        b" ",
        b"\x1f",
        b"\x1a",
    ),
    *(
        b"\x00",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\xe2\x80\xa8",
        b"nan",
        b"inf",
        b"-1",
        b"1e400",
        b"9" * 40,
    ),
    *(b"\x7f" * 4, b"\xff" * 8, b"\x80" * 10, b"PAR1", b"\x1f\x8b", b"user_id", b"x" * 300),
)

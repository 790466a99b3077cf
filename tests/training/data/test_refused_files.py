"""What is no file of interactions is refused with its reason, and raises nothing else."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.training.data.test_interactions import write
from training.data.errors import DataError
from training.data.interactions import read_interactions


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"", "is empty"),
        ("x.csv", b"user_id,item_id\n", "no usable row"),
        ("x.csv", "user_id,item_id\na,b\n".encode("utf-16"), "UTF-16"),
        ("x.csv", b"PAR1junkjunk", "let its name end in .parquet"),
        ("x.parquet", b"no parquet", "cannot read x.parquet"),
        (
            "x.csv.gz",
            gzip.compress(b"user_id,item_id\na,b\n" * 9, mtime=0)[:-9],
            "cannot read x.csv.gz",
        ),
        ("x.csv", b"1\n2\n", "a single column"),
        ("x.csv", b"user_id,item_id,item_id\n1,2,3\n", "stands twice"),
    ],
)
def test_unusable_files_are_refused_with_the_reason(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_interactions(write(tmp_path / name, content))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_interactions(tmp_path / "nowhere.csv")


def test_a_small_file_that_holds_millions_of_rows_is_refused(tmp_path: Path) -> None:
    rows = 2_000_000
    columns = {"user_id": pa.repeat(1, rows), "item_id": pa.repeat(2, rows)}
    path = tmp_path / "x.parquet"
    whole = {"row_group_size": rows, "max_rows_per_page": rows, "data_page_size": 2**30}
    pq.write_table(pa.table(columns), path, **whole)
    assert path.stat().st_size < 4096
    with pytest.raises(DataError, match="rows in"):
        read_interactions(path)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".inter", ".dat", ".csv.gz", ".parquet"])
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(max_size=300))
def test_random_bytes_raise_nothing_but_our_error(
    tmp_path: Path, suffix: str, content: bytes
) -> None:
    attempt(write(tmp_path / f"x{suffix}", content))


CELL = st.sampled_from(
    ["a", "", "1", "-1", "nan", "inf", "1e400", "2024-02-30", "\x00", '"', '""', "é", "\ud7ff"]
) | st.text(max_size=6)


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.lists(st.lists(CELL, min_size=0, max_size=4), max_size=8),
    separator=st.sampled_from([",", "\t", "::", ";", "|", " "]),
    header=st.booleans(),
)
def test_random_tables_raise_nothing_but_our_error(
    tmp_path: Path, rows: list[list[str]], separator: str, header: bool
) -> None:
    lines = [separator.join(["user_id", "item_id", "timestamp"])] if header else []
    lines += [separator.join(row) for row in rows]
    attempt(write(tmp_path / "x.csv", "\n".join(lines).encode("utf-8", "surrogatepass")))


def attempt(path: Path) -> Any:
    try:
        data = read_interactions(path)
    except DataError:
        return
    assert len(data) == data.report.rows > 0
    assert data.report.rows + data.report.bad_rows == data.report.total_rows
    assert data.timestamps.min() >= 0

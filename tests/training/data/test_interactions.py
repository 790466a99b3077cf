from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.columns import ColumnNames
from training.data.errors import DataError
from training.data.interactions import Interactions, make_interactions, read_interactions
from training.data.text_format import SourceStream


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def triples(data: Interactions) -> list[tuple[str, str, int]]:
    return [
        (data.user_ids[user], data.item_ids[item], time)
        for user, item, time in zip(
            data.user_codes.tolist(),
            data.item_codes.tolist(),
            data.timestamps.tolist(),
            strict=True,
        )
    ]


# Four rows out of order, with a tie of user b at time 1000000010.
ROWS = [("b", "x", 1_000_000_010), ("a", "y", 1_000_000_020), ("b", "w", 1_000_000_010)]
ROWS += [("b", "y", 1_000_000_000)]
SORTED = [("b", "y", 10**12), ("b", "x", 10**12 + 10_000), ("b", "w", 10**12 + 10_000)]
SORTED += [("a", "y", 10**12 + 20_000)]


def text(separator: str, header: str | None, middle: bool = False) -> str:
    lines = [header] if header else []
    for user, item, time in ROWS:
        lines.append(separator.join([user, item, *(["4.5"] if middle else []), str(time)]))
    return "\n".join(lines) + "\n"


FORMS = {
    "plain.csv": text(",", "user_id,item_id,timestamp"),
    "no_header.csv": text(",", None),
    "no_header_rating.csv": text(",", None, middle=True),
    "camel.csv": text(",", "userId,movieId,rating,timestamp", middle=True),
    "amazon.csv": text(",", "user_id,parent_asin,rating,timestamp", middle=True),
    "tab.tsv": text("\t", "user\titem\tts"),
    "ratings.dat": text("::", None, middle=True),
    "semicolon.txt": text(";", "UserID;ItemID;Time"),
    "pipe.txt": text("|", "session_id|item_id|event_time"),
    "spaces.txt": text(" ", None),
    "recbole.inter": text(
        "\t", "user_id:token\titem_id:token\trating:float\ttimestamp:float", middle=True
    ),
    "bom.csv": "\ufeff" + text(",", "user_id,item_id,timestamp"),
    "windows.csv": text(",", "user_id,item_id,timestamp").replace("\n", "\r\n"),
    "quoted.csv": text(",", '"user_id","item_id","timestamp"').replace("x", '"x"'),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_text_form_reads_alike(tmp_path: Path, name: str) -> None:
    data = read_interactions(write(tmp_path / name, FORMS[name]), strict=True)
    assert triples(data) == SORTED
    assert data.user_ids == ["b", "a"]
    assert data.item_ids == ["x", "y", "w"]  # by first appearance in the source


def test_gzip_and_parquet_give_the_digest_of_the_text(tmp_path: Path) -> None:
    plain = read_interactions(write(tmp_path / "a.csv", FORMS["plain.csv"]))
    zipped = read_interactions(
        write(tmp_path / "b.csv.gz", gzip.compress(FORMS["plain.csv"].encode()))
    )
    columns = dict(zip(("user_id", "item_id", "timestamp"), zip(*ROWS, strict=True), strict=True))
    table = pa.table({name: list(values) for name, values in columns.items()})
    pq.write_table(table, tmp_path / "c.parquet")
    parquet = read_interactions(tmp_path / "c.parquet")
    assert plain.digest == zipped.digest == parquet.digest
    other = read_interactions(write(tmp_path / "d.csv", FORMS["plain.csv"].replace("w", "v")))
    assert other.digest != plain.digest


def test_a_directory_of_parts_is_read_in_order_of_names(tmp_path: Path) -> None:
    for day, rows in (("2024-01-02", ROWS[2:]), ("2024-01-01", ROWS[:2])):
        part = tmp_path / "events" / f"date={day}"
        part.mkdir(parents=True)
        users, items, times = (list(values) for values in zip(*rows, strict=True))
        table = pa.table({"user_id": users, "item_id": items, "timestamp": times})
        pq.write_table(table, part / "part-0.parquet")
    write(tmp_path / "events" / "_temporary.parquet", "half written")
    data = read_interactions(tmp_path / "events", strict=True)
    assert triples(data) == SORTED


def test_an_empty_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no \.parquet files"):
        read_interactions(tmp_path)


def test_ties_keep_the_order_of_the_source_also_when_rows_are_many() -> None:
    generator = np.random.default_rng(0)
    users = [str(u) for u in generator.integers(0, 7, 5000)]
    times = generator.integers(10**9, 10**9 + 5, 5000)
    data = make_interactions(users, [str(i) for i in range(5000)], times)
    order = [int(data.item_ids[code]) for code in data.item_codes]
    keys = [(data.user_ids.index(users[place]), int(times[place]), place) for place in range(5000)]
    assert order == [place for _, _, place in sorted(keys)]


def test_bad_rows_are_counted_and_shown_with_their_lines(tmp_path: Path) -> None:
    path = write(
        tmp_path / "x.csv",
        b"user_id,item_id,note,timestamp\n"  # 1
        b'1,2,"two\nlines",1000000000\n'  # 2, 3
        b"\n"  # 4: no row at all
        b"4,5\n"  # 5
        b"x,\xff,,3\n"  # 6
        b"y,\x01,,3\n"  # 7
        b",,,\n"  # 8
        b"u,i,,-3\n"  # 9
        b"u,i,,1000000001.5\n"  # 10
        b"u,i,,soon\n"  # 11
        b"1,2,a,b,c\n"  # 12
        b"u,nan,,1000000000\n"  # 13
        + b"u,"
        + b"i" * 257
        + b",,1000000000\n"  # 14
        + b"\n"
        + b"u,i,,99999999999999\n",  # 16
    )
    report = read_interactions(path).report
    assert [row.line for row in report.bad_examples] == [5, 6, 7, 8, 9, 11, 12, 13, 14, 16]
    assert (report.rows, report.bad_rows, report.total_rows) == (2, 10, 12)
    reasons = [row.reason for row in report.bad_examples]
    assert reasons[0] == "2 fields instead of 4"
    assert reasons[1] == "item id is not UTF-8"
    assert reasons[2] == "item id has a control character"
    assert reasons[3] == "user id is empty"
    assert reasons[8] == "item id is longer than 256 characters"
    assert "9999" in reasons[9]
    with pytest.raises(DataError, match=r"x\.csv has 10 bad rows of 12, the first:\n  x.csv:5:"):
        read_interactions(path, strict=True)


def test_only_ten_bad_rows_are_shown_and_lines_hold_over_blocks(tmp_path: Path) -> None:
    lines = [f"u{n},i,{10**9 + n}" if n % 50_000 else "torn" for n in range(1, 700_001)]
    report = read_interactions(
        write(tmp_path / "big.csv", "user_id,item_id,timestamp\n" + "\n".join(lines))
    ).report
    assert report.bad_rows == 14
    assert [row.line for row in report.bad_examples] == [50_000 * n + 1 for n in range(1, 11)]
    assert report.rows == 700_000 - 14


def test_blank_lines_between_shift_the_lines_of_bad_values(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tsv", "user\titem\tts\n\n\na\tb\t1\n\na\tb\toops\n")
    assert [row.line for row in read_interactions(path).report.bad_examples] == [6]


def test_blank_lines_may_stand_before_the_header(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "\n\nuser,item,ts\na,b,1\ntorn\na,b,oops\n")
    report = read_interactions(path).report
    assert report.rows == 1
    assert [row.line for row in report.bad_examples] == [5, 6]


@pytest.mark.parametrize("separator", [",", "::"])
def test_torn_rows_that_are_no_utf8_are_counted(tmp_path: Path, separator: str) -> None:
    rows = [b"a,b,5,1", b"a,\xff", b"\xc3\xa9,c,5,2", b"\xe9,c,5,3", b"d,e,5,\xff", b"\xc3"]
    content = b"\n".join(rows).replace(b",", separator.encode())
    data = read_interactions(write(tmp_path / "x.dat", content))
    assert [row[:2] for row in triples(data)] == [("a", "b"), ("é", "c")]
    assert [row.line for row in data.report.bad_examples] == [2, 4, 5, 6]
    assert data.report.bad_examples[1].reason == "user id is not UTF-8"


@pytest.mark.parametrize("separator", [",", "::"])
@settings(deadline=None)
@given(
    content=st.lists(
        st.sampled_from([b":", b"::", b"a", "é".encode(), b"\xff", "🜚".encode(), b"\n"])
    ).map(b"".join),
    size=st.integers(8, 20),
)
def test_the_stream_reads_alike_in_pieces_of_any_size(
    tmp_path_factory: pytest.TempPathFactory, separator: str, content: bytes, size: int
) -> None:
    path = write(tmp_path_factory.mktemp("stream") / "x", content)
    with SourceStream(path, separator=separator, on_progress=None) as stream:
        pieces = list(iter(lambda: stream.read(size), b""))
    with SourceStream(path, separator=separator, on_progress=None) as stream:
        whole = stream.read() + stream.read()
    assert b"".join(pieces) == whole
    assert max(map(len, pieces), default=0) <= size
    whole.decode()


def test_a_stray_quote_between_tabs_costs_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tsv", 'user\titem\tts\na\t"b\t1\nc\td\t2\n')
    assert [row[:2] for row in triples(read_interactions(path, strict=True))] == [
        ("a", '"b'),
        ("c", "d"),
    ]


def test_bad_rows_of_parquet_are_numbered_by_row(tmp_path: Path) -> None:
    table = pa.table(
        {
            "user_id": pa.array([1.0, None, 3.0, 4.0]),
            "item_id": ["a", "b", "", "d"],
            "timestamp": pa.array([10, 20, 30, None], type=pa.int32()),
        }
    )
    pq.write_table(table, tmp_path / "x.parquet")
    data = read_interactions(tmp_path / "x.parquet")
    assert data.user_ids == ["1"]  # a whole float is the integer it was
    assert [row.line for row in data.report.bad_examples] == [2, 3, 4]


MOMENT = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
MOMENT_MS = int(MOMENT.timestamp() * 1000)


@pytest.mark.parametrize(
    ("shown", "milliseconds"),
    [
        (str(MOMENT_MS // 1000), MOMENT_MS),
        (f"{MOMENT_MS // 1000}.250", MOMENT_MS + 250),
        (str(MOMENT_MS), MOMENT_MS),
        (str(MOMENT_MS * 1000), MOMENT_MS),
        (str(MOMENT_MS * 1_000_000), MOMENT_MS),
        ("2024-05-06T07:08:09Z", MOMENT_MS),
        ("2024-05-06T09:08:09.125+02:00", MOMENT_MS + 125),
        ("2024-05-06 07:08:09", MOMENT_MS),
        ("2024-05-06", MOMENT_MS - (7 * 3600 + 8 * 60 + 9) * 1000),
    ],
)
def test_times_of_every_kind_become_milliseconds(
    tmp_path: Path, shown: str, milliseconds: int
) -> None:
    data = read_interactions(write(tmp_path / "x.csv", f"user,item,timestamp\na,b,{shown}\n"))
    assert data.timestamps.tolist() == [milliseconds]
    assert data.has_times


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_parquet_timestamps_keep_their_moment(tmp_path: Path, unit: str) -> None:
    stamps = pa.array([MOMENT], type=pa.timestamp("us", "UTC")).cast(pa.timestamp(unit, "UTC"))
    pq.write_table(
        pa.table({"user_id": [1], "item_id": [2], "timestamp": stamps}), tmp_path / "x.parquet"
    )
    assert read_interactions(tmp_path / "x.parquet").timestamps.tolist() == [MOMENT_MS]


def test_without_times_the_file_order_counts(tmp_path: Path) -> None:
    data = read_interactions(write(tmp_path / "x.csv", "user,item\nb,z\na,y\nb,a\n"))
    assert [row[:2] for row in triples(data)] == [("b", "z"), ("b", "a"), ("a", "y")]
    assert data.report.time_kind == "file order"
    assert not data.has_times


def test_small_numbers_are_positions(tmp_path: Path) -> None:
    data = read_interactions(write(tmp_path / "x.csv", "user,item,timestamp\na,p,1\na,q,0\n"))
    assert [row[1] for row in triples(data)] == ["q", "p"]
    assert data.report.time_kind == "position"


def test_named_columns_are_read_and_missing_ones_named(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "who,what,when\na,b,1000000000\n")
    names = ColumnNames(user="who", item="what", timestamp="when")
    assert triples(read_interactions(path, names)) == [("a", "b", 10**12)]
    with pytest.raises(
        DataError, match=r"cannot tell which column holds the user.*who, what, when"
    ):
        read_interactions(path)
    with pytest.raises(DataError, match="no item column 'thing'; columns found: who, what, when"):
        read_interactions(path, ColumnNames(user="who", item="thing"))
    with pytest.raises(DataError, match="two roles"):
        read_interactions(path, ColumnNames(user="who", item="who"))


def test_numbered_columns_say_that_there_is_no_header(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "alice,book\nbob,pen\n")
    names = ColumnNames(user="column_2", item="column_1")
    assert [row[:2] for row in triples(read_interactions(path, names))] == [
        ("book", "alice"),
        ("pen", "bob"),
    ]


def test_duplicates_repeats_and_short_users() -> None:
    # a: p at 1, p at 1 (duplicate), p at 2 (repeat), q; b: p, alone.
    base = 1_600_000_000
    users, items = ["a", "a", "a", "a", "b"], ["p", "p", "p", "q", "p"]
    times = [base + 1, base + 1, base + 2, base + 3, base]
    report = make_interactions(users, items, times).report
    assert (report.duplicates, report.rows, report.short_users) == (1, 5, 1)
    assert report.repeat_share == pytest.approx(2 / 5)


def test_options_drop_duplicates_and_short_users(tmp_path: Path) -> None:
    base = 1_600_000_000
    body = f"a,p,{base}\nb,z,{base}\na,p,{base}\na,q,{base + 1}\n"
    path = write(tmp_path / "x.csv", "user,item,timestamp\n" + body)
    data = read_interactions(path, drop_duplicates=True, min_user_interactions=2)
    assert [row[:2] for row in triples(data)] == [("a", "p"), ("a", "q")]
    assert data.item_ids == ["p", "q"]
    assert data.report.dropped_rows == 2
    with pytest.raises(DataError, match="no user has 9 interactions"):
        read_interactions(path, min_user_interactions=9)


def test_progress_ends_with_all_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", FORMS["plain.csv"])
    calls: list[tuple[int, int]] = []
    read_interactions(path, on_progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (path.stat().st_size, path.stat().st_size)


def test_arrays_are_read_only_and_the_summary_speaks() -> None:
    data = make_interactions(["a", "a"], ["p", "q"])
    with pytest.raises(ValueError, match="read-only"):
        data.item_codes[0] = 1
    assert "2 interactions of 1 users, 2 items" in data.report.summary()

from __future__ import annotations

import contextlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from training.data.attributes import read_item_attributes
from training.data.errors import DataError


def test_parquet_keeps_types_and_leaves_out_what_is_empty(tmp_path: Path) -> None:
    table = pa.table(
        {
            "item_id": [1, 2, 1],
            "title": ["A", None, "again"],
            "genres": [["x", "y"], [], ["z"]],
            "codes": [[7], [8], [9]],
            "price": [1.5, float("nan"), 0.0],
            "new": [True, False, True],
        }
    )
    pq.write_table(table, tmp_path / "items.parquet")
    assert read_item_attributes(tmp_path / "items.parquet") == {
        "1": {"title": "A", "genres": ["x", "y"], "codes": ["7"], "price": 1.5, "new": True},
        "2": {"codes": ["8"], "new": False},
    }


def test_csv_splits_genres_and_honours_quotes(tmp_path: Path) -> None:
    path = tmp_path / "movies.csv"
    path.write_text('movieId,title,genres\n1,"Heat, The",Crime|Drama\n2,,\n', encoding="utf-8")
    assert read_item_attributes(path) == {
        "1": {"title": "Heat, The", "genres": ["Crime", "Drama"]},
        "2": {},
    }


def test_recbole_items_get_common_names(tmp_path: Path) -> None:
    path = tmp_path / "x.item"
    path.write_text(
        "item_id:token\tmovie_title:token_seq\tclass:token_seq\tprice:float\n"
        "9\tToy Story\tAnimation Comedy\t2.5\n",
        encoding="utf-8",
    )
    assert read_item_attributes(path) == {
        "9": {"title": "Toy Story", "genres": ["Animation", "Comedy"], "price": 2.5}
    }


def test_old_encodings_are_read(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_bytes("item_id,title\n1,Misérables\n".encode("latin-1"))
    assert read_item_attributes(path) == {"1": {"title": "Misérables"}}


def test_the_id_column_can_be_named_and_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text("key,title\na,b\n", encoding="utf-8")
    assert read_item_attributes(path, item="key") == {"a": {"title": "b"}}
    with pytest.raises(DataError, match="Columns found: key, title"):
        read_item_attributes(path)
    with pytest.raises(DataError, match="does not exist"):
        read_item_attributes(tmp_path / "none.csv")


@pytest.mark.parametrize("suffix", [".csv", ".item", ".parquet", ".csv.gz"])
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(max_size=200).map(lambda tail: b"item_id,title\n" + tail) | st.binary())
def test_random_bytes_raise_nothing_but_our_error(
    tmp_path: Path, suffix: str, content: bytes
) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    with contextlib.suppress(DataError):
        assert read_item_attributes(path)

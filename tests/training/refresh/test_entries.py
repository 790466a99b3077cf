"""Whatever stands in a stream: an entry of ours, or None; and what is taken can be written."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.refresh.dataset import events_table
from training.refresh.entries import Event, StreamId, parse_entry
from training.refresh.ops import UserKeys, ops_table

AT = StreamId(1_767_225_600_000, 0)
TEXT = st.sampled_from(["u", "", "\ud800", "\x00", "x" * 300, "ü" * 2000]) | st.text(max_size=3)
WILD = st.one_of(
    TEXT,
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**400, -1, 2**63, 1e400, float("nan"), 1.5, [], {}, [[]], [["i", 1]]]),
)
LIKELY = {
    "user": st.just("u") | WILD,
    "item": st.just("i") | WILD,
    "ms": st.just(1_767_225_600_000) | WILD,
    "type": st.just("view") | WILD,
    "event": st.just("00ff00ff00ff00ff") | WILD,
    "source": st.just("v") | WILD,
    "value": WILD,
    "recommendation": WILD,
    "entries": st.lists(st.lists(st.just("i") | st.just(1) | WILD, max_size=3), max_size=3) | WILD,
}
DATA = st.one_of(
    st.fixed_dictionaries({}, optional=LIKELY).map(lambda data: json.dumps(data).encode()),
    st.fixed_dictionaries(LIKELY).map(lambda data: json.dumps(data).encode()),
    st.binary(max_size=40),
    st.sampled_from([b"[" * 50_000, b"1" * 5000, b'{"user": "\xff"}', b"null", b"\xef\xbb\xbf{}"]),
)
OPS = st.sampled_from([b"event", b"replace", b"merge", b"delete", b"", b"\xff", b"EVENT"])
FIELDS = st.fixed_dictionaries({}, optional={b"op": OPS, b"data": DATA, b"more": st.binary()})


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> UserKeys:
    return UserKeys(tmp_path_factory.mktemp("keys") / "key")


def test_any_entry_is_read_or_left_out(keys: UserKeys) -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=300, deadline=None)
    @given(fields=FIELDS | st.fixed_dictionaries({b"op": OPS, b"data": DATA}))
    def read(fields: dict[bytes, bytes]) -> None:
        rows: list[Any] | None = parse_entry(AT, fields)
        seen["none" if rows is None else "rows"] += 1
        events = [row for row in rows or [] if isinstance(row, Event)]
        others = [row for row in rows or [] if not isinstance(row, Event)]
        assert events_table(events).num_rows == len(events)
        assert ops_table([keys.op(row, 0) for row in others]).num_rows == len(others)

    read()
    assert set(seen) == {"none", "rows"}

"""Values that no version of the service wrote, for every key that it reads or writes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import redis
from hypothesis import strategies as st

from models.events import IDENTITY_BYTES, KEY_PREFIX, active_model_key
from service.store.keys import Keys
from tests.fuzz.target import KEY

Value = tuple[str, Any]
RECOMMENDATION = "01M7YD783EB3RYCQXM28V772VB"

_ID = st.sampled_from(["item-1", "item-2", "item-40", "unknown", "x" * 256, "x" * 300, "ü"])
_OURS = st.tuples(st.binary(min_size=IDENTITY_BYTES, max_size=IDENTITY_BYTES), _ID).map(
    lambda pair: pair[0] + pair[1].encode()
)
MEMBERS = st.one_of(
    _OURS,
    _OURS.flatmap(lambda member: st.integers(0, len(member)).map(lambda at: member[:at])),
    _ID.map(str.encode),  # an item id alone, as a simpler format would have it
    _ID.map(lambda item: json.dumps({"item": item, "ms": 1}).encode()),
    # Of an answer shown, in name only.
    st.sampled_from(
        [b"forged|forged|abcd", b"|||", b"stable|d1-w8-e8|abc", b"stable||", b"\xff||"]
    ),
    st.sampled_from(
        [b"", b"\x00" * 9, b"12345678\xff\xfe", b"12345678\n\r", b"12345678" + b"y" * 50_000]
    ),
    st.binary(max_size=40),
)
SCORES = st.one_of(
    st.sampled_from([0.0, -1.0, 1.7e12, 1e18, float("inf"), float("-inf"), 5e-324, 2.0**53]),
    st.floats(allow_nan=False),
)
NUMBERS = st.sampled_from(
    [
        b"",
        b"0",
        b"-1",
        b"nan",
        b"inf",
        b"-inf",
        b"1e400",
        b"0x10",
        b" 1",
        b"9" * 30,
        b"9223372036854775807",
    ]
)
VALUES: st.SearchStrategy[Value] = st.one_of(
    st.tuples(st.just("zset"), st.dictionaries(MEMBERS, SCORES, min_size=1, max_size=12)),
    st.tuples(st.just("long zset"), st.just(2000)),
    st.tuples(st.just("string"), NUMBERS | MEMBERS),
    st.tuples(st.just("list"), st.lists(MEMBERS, min_size=1, max_size=3)),
    st.tuples(st.just("set"), st.lists(MEMBERS, min_size=1, max_size=3)),
    st.tuples(
        st.just("hash"),
        st.dictionaries(
            MEMBERS | st.just(RECOMMENDATION.encode()), MEMBERS | NUMBERS, min_size=1, max_size=3
        ),
    ),
    st.tuples(st.just("stream"), st.dictionaries(MEMBERS, MEMBERS, min_size=1, max_size=2)),
    st.tuples(st.just("none"), st.none()),
)
MESSAGES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [b"{", b'{"version": "../../etc"}', b'{"version": 7}', b"[]", b"\xff" * 10_000]
    ),
)
CHANNEL = active_model_key(KEY_PREFIX)
_KEYS = Keys()
_USER, _SOURCE = USERS = ("ada-of-the-fuzz", "bob-of-the-fuzz")
KEYS = (
    *(_KEYS.history(_USER), _KEYS.version(_USER), _KEYS.results(_USER), _KEYS.impressions(_USER)),
    *(_KEYS.forgotten(_USER), _KEYS.history(_SOURCE), _KEYS.version(_SOURCE)),
    *(_KEYS.impressions(_SOURCE), _KEYS.forgotten(_SOURCE), CHANNEL),
    *(f"{KEY_PREFIX}:blocklist", f"{KEY_PREFIX}:blocklist:revision"),
    f"{KEY_PREFIX}:rate:key:{hashlib.sha256(KEY.encode()).hexdigest()[:32]}",
)
_EVENT = {"user_id": _USER, "item_id": "item-7", "recommendation_id": RECOMMENDATION}
REQUESTS: Sequence[tuple[str, str, Any]] = (
    ("POST", "/v1/recommend", {"user_id": _USER, "k": 5, "include": ["scores", "explain"]}),
    ("POST", "/v1/recommend/batch", {"requests": [{"user_id": _USER}, {"user_id": _SOURCE}]}),
    ("GET", f"/v1/users/{_USER}/history?limit=1000", None),
    ("POST", "/v1/events", {"events": [_EVENT, {"user_id": _SOURCE, "item_id": "item-8"}]}),
    ("POST", f"/v1/users/{_USER}/merge", {"source_user_id": _SOURCE}),
    ("PUT", f"/v1/users/{_USER}/history", {"items": [{"item_id": "item-3"}]}),
    ("DELETE", f"/v1/users/{_USER}/history", None),
    ("GET", "/v1/admin/blocklist", None),
    ("POST", "/v1/admin/blocklist", {"add": ["item-39"], "remove": ["item-38"]}),
    ("PUT", "/v1/admin/blocklist", {"items": []}),
    ("GET", "/v1/model", None),
    ("GET", "/readyz", None),
)


def put(client: redis.Redis, values: Mapping[str, Value]) -> None:
    """Make each key hold its value, whatever it held."""
    batch = client.pipeline(transaction=False)
    for key, (kind, value) in values.items():
        batch.delete(key)
        if kind == "zset":
            batch.zadd(key, value)
        elif kind == "long zset":
            batch.zadd(key, {b"12345678m%d" % n: float(n) for n in range(value)})
        elif kind == "string":
            batch.set(key, value)
        elif kind == "list":
            batch.rpush(key, *value)
        elif kind == "set":
            batch.sadd(key, *value)
        elif kind == "hash":
            batch.hset(key, mapping=value)
        elif kind == "stream":
            batch.xadd(key, value)
    batch.execute()

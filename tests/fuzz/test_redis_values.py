"""Foreign, truncated and old values under any key of the service fail no request."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence

import httpx
import pytest
import redis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from service.store.keys import Keys
from tests.fuzz.redis_values import CHANNEL, KEYS, MESSAGES, REQUESTS, USERS, VALUES, Value, put
from tests.fuzz.target import Target, target

pytestmark = pytest.mark.long

# Each is a store full of values, asked by every request of REQUESTS.
STORES = int(os.environ.get("CANET_FUZZ_STORES", "20"))
SEED = int(os.environ.get("CANET_FUZZ_SEED", "1"))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    shared = {"rate_limit": "900000000/s", "rate_limit_shared": "true"}
    told = {"result_ttl": "0", "log_level": "DEBUG"}
    with target(tmp_path_factory.mktemp("redis"), **told, **shared) as found:
        yield found


@pytest.fixture(scope="module")
def store(service: Target) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(service.redis_url) as client:
        yield client


@pytest.fixture(scope="module")
def client(service: Target) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, headers=service.headers, timeout=120) as client:
        yield client


def test_no_value_fails_a_request(
    service: Target, store: redis.Redis, client: httpx.Client
) -> None:
    counted: Counter[int] = Counter()

    @seed(SEED)
    @settings(
        max_examples=STORES,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # an example is a dozen requests: shrinking takes minutes
        suppress_health_check=list(HealthCheck),
    )
    @given(
        values=st.fixed_dictionaries(dict.fromkeys(KEYS, VALUES)),
        order=st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=6),
        messages=st.lists(MESSAGES, max_size=2),
    )
    def ask(
        values: dict[str, Value], order: list[tuple[str, str, object]], messages: list[bytes]
    ) -> None:
        for requests in (order, REQUESTS):  # the second time some were healed, some are fresh
            put(store, values)
            for message in messages:
                store.publish(CHANNEL, message)
            counted.update(_ask(client, requests))

    ask()
    told = dict(sorted(counted.items()))
    sys.stdout.write(f"{counted.total():,} requests over foreign values; by status {told}\n")
    assert set(counted) == {200, 204}
    assert service.process.poll() is None
    assert [line for line in service.errors() if "exception" in line] == []
    log = service.log.read_text()
    assert all(user not in log for user in USERS)
    assert "forged" not in client.get("/metrics").text, "a value became a label"


def _ask(client: httpx.Client, requests: Sequence[tuple[str, str, object]]) -> list[int]:
    found = []
    for method, path, body in requests:
        answer = client.request(method, path, json=body)
        assert answer.status_code in {200, 204}, f"{method} {path}: {answer.text}"
        found.append(answer.status_code)
    return found


def test_a_foreign_stream_stops_writes_alone(
    service: Target, store: redis.Redis, client: httpx.Client
) -> None:
    """What cannot reach the trainer is not acknowledged; everything else goes on."""
    store.flushall()
    stream = Keys().stream("ada")
    store.set(stream, "foreign")
    event = {"events": [{"user_id": "ada", "item_id": "item-1"}]}
    refused = client.post("/v1/events", json=event)
    assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
    assert client.post("/v1/recommend", json={"user_id": "ada"}).status_code == 200
    assert client.get("/v1/users/ada/history").json()["length"] == 0
    store.delete(stream)
    assert client.post("/v1/events", json=event).json()["accepted"] == 1

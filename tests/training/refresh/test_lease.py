"""One trainer at a time, and none that was asleep for too long publishes."""

from __future__ import annotations

import time

import pytest
import redis

from training.refresh.errors import BusyError, LeaseLostError
from training.refresh.lease import Lease


def wait_until_lost(lease: Lease) -> None:
    until = time.monotonic() + 20
    while not lease.lost:
        assert time.monotonic() < until
        time.sleep(0.02)


def test_the_second_is_told_who_and_how_long(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        with Lease(client, seconds=30, wait_seconds=0) as first:
            with (
                pytest.raises(BusyError, match="another refresh is running") as caught,
                Lease(client, seconds=30, wait_seconds=0.1),
            ):
                pass
            assert 0 < caught.value.wait_seconds <= 30
            first.ensure()
        with Lease(client, seconds=30, wait_seconds=0) as second:
            assert second.fence > first.fence


def test_it_is_renewed_while_the_work_lasts(redis_url: str) -> None:
    with (
        redis.Redis.from_url(redis_url) as client,
        Lease(client, seconds=0.6, wait_seconds=0) as lease,
    ):
        time.sleep(1.5)
        lease.ensure()
        assert client.exists("canet:1:trainer:lock")


def test_a_dead_holder_is_waited_for(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set("canet:1:trainer:lock", "1:dead", px=700)
        with Lease(client, seconds=30, wait_seconds=30) as lease:
            lease.ensure()


def test_a_holder_that_lost_it_knows_and_leaves_the_next_one_alone(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        with Lease(client, seconds=0.6, wait_seconds=0) as lease:
            client.set("canet:1:trainer:lock", "99:other")
            with pytest.raises(LeaseLostError, match="nothing of this run is published"):
                lease.ensure()
            wait_until_lost(lease)
        assert client.get("canet:1:trainer:lock") == b"99:other"


def test_it_runs_out_where_nobody_answers(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        with Lease(client, seconds=0.6, wait_seconds=0) as lease:
            client.execute_command("CLIENT", "PAUSE", 3000, "ALL")
            wait_until_lost(lease)
        client.execute_command("CLIENT", "UNPAUSE")

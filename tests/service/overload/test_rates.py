"""A caller gets its rate, never more over any stretch, and nobody else's."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from service.config.values import Rate
from service.overload.rates import MOST_CALLERS, LocalRates, Verdict, spend
from service.overload.shared_rates import SharedRates
from service.store.redis_config import RedisConfig


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_a_whole_rate_at_once_then_one_by_one() -> None:
    clock = Clock()
    rates = LocalRates(Rate(requests=5, seconds=10), clock=clock)
    told = [await rates.take("a") for _ in range(6)]
    assert [one.allowed for one in told] == [True] * 5 + [False]
    assert [one.remaining for one in told] == [4, 3, 2, 1, 0, 0]
    assert abs(told[-1].retry_seconds - 2.0) < 1e-6
    assert (await rates.take("b")).allowed
    clock.now += 2.0
    assert (await rates.take("a")).allowed
    assert not (await rates.take("a")).allowed
    clock.now += 1000.0
    assert (await rates.take("a")).remaining == 4


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(1, 50),
    st.integers(1, 100),
    st.lists(st.floats(0, 30), min_size=1, max_size=200),
)
def test_no_stretch_of_time_sees_more_than_burst_and_rate(
    requests: int, seconds: int, gaps: list[float]
) -> None:
    rate = Rate(requests=requests, seconds=seconds)
    now, full_at, allowed = 0.0, 0.0, []
    for gap in gaps:
        now += gap
        full_at, verdict = spend(full_at, now, rate)
        assert 0 <= verdict.remaining < requests or not verdict.allowed
        assert verdict.reset_seconds <= seconds * (1 + 1e-6)
        if verdict.allowed:
            allowed.append(now)
        else:
            assert spend(full_at, now + verdict.retry_seconds + 1e-6, rate)[1].allowed
    for index, start in enumerate(allowed):
        for count, end in enumerate(allowed[index:], start=1):
            assert count <= requests + (end - start) * requests / seconds + 1e-3


async def test_the_table_of_callers_is_bounded() -> None:
    rates = LocalRates(Rate(requests=1, seconds=86400))
    for number in range(MOST_CALLERS + 10):
        await rates.take(str(number))
    assert not (await rates.take(str(MOST_CALLERS))).allowed
    assert (await rates.take("0")).allowed


def config(url: str) -> RedisConfig:
    return RedisConfig(
        url=url, op_timeout_seconds=5, write_timeout_seconds=5, connect_timeout_seconds=5
    )


async def test_replicas_share_one_bucket(redis_url: str) -> None:
    rate = Rate(requests=4, seconds=86400)
    replicas = [SharedRates(rate, config(redis_url), lambda *_: None) for _ in range(2)]
    told: list[Verdict] = [await replicas[turn % 2].take("a") for turn in range(6)]
    assert [one.allowed for one in told] == [True] * 4 + [False] * 2
    assert [one.remaining for one in told] == [3, 2, 1, 0, 0, 0]
    assert 0 < told[-1].retry_seconds <= 21600
    assert (await replicas[0].take("b")).allowed
    for replica in replicas:
        await replica.close()


@pytest.mark.parametrize("found", ["nan", "inf", "-inf", "1e400", "", "words", ["a", "list"]])
async def test_a_bucket_that_is_none_is_a_full_one(redis_url: str, found: str | list[str]) -> None:
    rates = SharedRates(Rate(requests=2, seconds=86400), config(redis_url), lambda *_: None)
    async with Redis.from_url(redis_url) as raw:
        if isinstance(found, str):
            await raw.set("canet:1:rate:a", found)
        else:
            await raw.rpush("canet:1:rate:a", *found)
        assert [(await rates.take("a")).allowed for _ in range(3)] == [True, True, False]
        assert 0 < await raw.ttl("canet:1:rate:a") <= 2 * 86400
    await rates.close()


async def test_without_redis_each_replica_counts_alone() -> None:
    rates = SharedRates(
        Rate(requests=2, seconds=86400), RedisConfig(url="redis://127.0.0.1:1"), lambda *_: None
    )
    assert [(await rates.take("a")).allowed for _ in range(3)] == [True, True, False]
    await rates.close()

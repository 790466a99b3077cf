"""Token buckets in Redis: all replicas together allow the rate."""

from __future__ import annotations

import asyncio

from service.config.values import Rate
from service.overload.rates import LocalRates, Verdict
from service.store.contract import StoreUnavailableError
from service.store.redis_client import Observer, RedisClient, Script
from service.store.redis_config import RedisConfig

# `service.overload.rates.spend` on the server's clock, in microseconds.
# KEYS[1] = bucket; ARGV = requests, microseconds. Returns {1 or 0, when it is full, now}.
_TAKE = Script("""
local requests, period = tonumber(ARGV[1]), tonumber(ARGV[2])
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000000 + tonumber(t[2])
local before = redis.pcall('GET', KEYS[1])
before = type(before) == 'string' and tonumber(before) or 0
if not (before >= now and before <= now + period) then before = now end
local after = before + period / requests
if after - now > period * (1 + 1e-9) then return {0, string.format('%.0f', before - now)} end
redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX',
  math.max(1, math.ceil((after - now) / 1000)))
return {1, string.format('%.0f', after - now)}
""")


class SharedRates:
    """Counts in Redis and, while Redis is away, in this process: never unlimited, never closed."""

    def __init__(self, rate: Rate, config: RedisConfig, observe: Observer) -> None:
        self._rate = rate
        self._prefix = f"{config.key_prefix}:rate"
        self._patience_seconds = config.read_wait_seconds
        self._client = RedisClient(config, observe)
        self._local = LocalRates(rate)

    async def take(self, caller: str) -> Verdict:
        """Count one request of `caller`, unless it exceeds the rate; never raises."""
        arguments = (self._rate.requests, self._rate.seconds * 1_000_000)
        try:
            # A request waits for its count no longer than for its history.
            async with asyncio.timeout(self._patience_seconds):
                replies = await self._client.write(
                    "rate", _TAKE, [((f"{self._prefix}:{caller}",), arguments)]
                )
        except (StoreUnavailableError, TimeoutError):
            return await self._local.take(caller)
        allowed, reset = replies[0]
        reset_seconds = float(reset) / 1_000_000
        token = self._rate.seconds / self._rate.requests
        return Verdict(
            allowed=allowed == 1,
            remaining=int((self._rate.seconds - reset_seconds) / token + 1e-3) if allowed else 0,
            reset_seconds=reset_seconds,
            retry_seconds=0.0 if allowed else reset_seconds + token - self._rate.seconds,
        )

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        await self._client.close()

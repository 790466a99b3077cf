"""The blocklist in Redis: one hash for all replicas, one script per change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from service.blocklist.contract import BlocklistFullError, Change, Listing
from service.store.keys import MAX_TIMESTAMP_MS
from service.store.redis_client import Observer, RedisClient, Script
from service.store.redis_config import RedisConfig

# Nobody's request waits for these, and a whole list is longer than a history.
_SECONDS = 2.0
# Of microseconds, as revisions are; milliseconds have fewer.
_MOST_DIGITS = 16

# KEYS = list, revision. ARGV[1] = known revision. Returns {revision} or {revision, list}.
# A list that is none is a lost one: revision 0.
_READ = Script("""
local revision, kind = redis.pcall('GET', KEYS[2]), redis.call('TYPE', KEYS[1]).ok
if type(revision) ~= 'string' then revision = '0' end
if kind ~= 'hash' and kind ~= 'none' then return {'0', {}} end
if revision == ARGV[1] then return {revision} end
return {revision, redis.call('HGETALL', KEYS[1])}
""")

# KEYS = list, revision. ARGV = bound, 1 to replace, how many to add, these, the ones to remove.
# Returns {fits, added, removed, size, revision}.
# A revision is no smaller than the time, so that a store which began anew repeats none.
_CHANGE = Script("""
local list, bound, additions = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[3])
if redis.call('TYPE', list).ok ~= 'hash' then redis.call('DEL', list) end
local size, added, removed = redis.call('HLEN', list), {}, {}
if ARGV[2] == '1' then
  local wanted = {}
  for n = 4, 3 + additions do wanted[ARGV[n]] = true end
  for _, item in ipairs(redis.call('HKEYS', list)) do
    if not wanted[item] then removed[#removed + 1] = item end
  end
else
  for n = 4 + additions, #ARGV do
    if redis.call('HEXISTS', list, ARGV[n]) == 1 then removed[#removed + 1] = ARGV[n] end
  end
end
for n = 4, 3 + additions do
  if redis.call('HEXISTS', list, ARGV[n]) == 0 then added[#added + 1] = ARGV[n] end
end
local after = size + #added - #removed
if after > bound then return {0, #added, #removed, after, 0} end
local before, t = redis.pcall('GET', KEYS[2]), redis.call('TIME')
before = type(before) == 'string' and tonumber(before) or 0
if not (before >= 0 and before < 2 ^ 52) then before = 0 end
local revision = math.max(before + 1, tonumber(t[1] .. string.format('%06d', t[2])))
redis.call('SET', KEYS[2], string.format('%.0f', revision))
local now = t[1] .. string.format('%03d', math.floor(t[2] / 1000))
for _, item in ipairs(removed) do redis.call('HDEL', list, item) end
for _, item in ipairs(added) do redis.call('HSET', list, item, now) end
return {1, #added, #removed, after, revision}
""")


class RedisBlocklist:
    """The BlocklistStore over a Redis-compatible server; holds at most `limit` items."""

    def __init__(self, config: RedisConfig, *, limit: int, observe: Observer) -> None:
        patient = replace(config, op_timeout_seconds=_SECONDS, write_timeout_seconds=_SECONDS)
        self._client = RedisClient(patient, observe)
        self._keys = (f"{config.key_prefix}:blocklist", f"{config.key_prefix}:blocklist:revision")
        self._limit = limit

    async def read(self, known: int | None) -> Listing | None:
        """Return the list; None when its revision is still `known`."""
        arguments = ["" if known is None else str(known)]
        (reply,) = await self._client.write("blocklist", _READ, [(self._keys, arguments)])
        if len(reply) == 1:
            return None
        flat = reply[1]
        return Listing(
            revision=_number(reply[0]),
            since_ms={
                item.decode(): min(_number(since), MAX_TIMESTAMP_MS)
                for item, since in zip(flat[::2], flat[1::2], strict=True)
                if _is_text(item)
            },
        )

    async def change(self, add: Sequence[str], remove: Sequence[str]) -> Change:
        """Block `add` and unblock `remove`, in one step; BlocklistFullError."""
        return await self._change([self._limit, 0, len(add), *add, *remove])

    async def replace(self, items: Sequence[str]) -> Change:
        """Make the list hold just `items`, in one step; BlocklistFullError."""
        return await self._change([self._limit, 1, len(items), *items])

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        await self._client.close()

    async def _change(self, arguments: Sequence[str | int]) -> Change:
        (reply,) = await self._client.write("blocklist", _CHANGE, [(self._keys, arguments)])
        fits, added, removed, size, revision = reply
        if not fits:
            raise BlocklistFullError(size=size, limit=self._limit)
        return Change(added=added, removed=removed, size=size, revision=revision)


def _number(value: bytes) -> int:
    """Return the number; 0 for what is none of ours."""
    return int(value) if value.isdigit() and len(value) <= _MOST_DIGITS else 0


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True

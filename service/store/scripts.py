"""The write scripts. Each is one atomic step over one user's keys and the event stream.

Core commands only, Redis >= 6.2. See docs/adr/0002-event-write.md. Shared rules:

- KEYS[1], KEYS[2] = history, version; the last key = event stream (REMEMBER has keys of its own);
  the one before it, of all but APPEND, the list of what users wished: the stream is bounded, and a
  deletion must not fall to the bound before a trainer has seen it.
- ARGV[1..4] = history bound, history TTL, version TTL (seconds), stream bound.
- All checks that can fail come before the first write: a script is not rolled back.
- Equal milliseconds keep their order of arrival: the score's fraction counts in steps of 1/1024
  within one millisecond. 43 bits of milliseconds and 10 of fraction fit a double exactly.
- A foreign type under a history key is dropped on the next write; under the stream key it
  refuses the write, since an event that cannot be streamed must not be acknowledged.
"""

from service.store.contract import FORGET_SECONDS, MOST_SHOWN

# A million in all streams. Nobody's deletion is lost before so many others without any refresh.
MOST_WISHES = 65_536

_PRELUDE = """
local STEP = 1 / 1024
local max, ttl, vttl, cap = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]
local ev = KEYS[#KEYS]
local kind = redis.call('TYPE', ev).ok
if kind ~= 'none' and kind ~= 'stream' then
  return redis.error_reply('WRONGTYPE the event stream key holds a ' .. kind)
end
local function text(score) return string.format('%.17g', score) end
local function claim(key)
  local found = redis.call('TYPE', key).ok
  if found ~= 'none' and found ~= 'zset' then redis.call('DEL', key) end
end
local function trim(key)
  redis.call('ZREMRANGEBYRANK', key, 0, -(max + 1))
end
local function identities(key)
  local known = {}
  for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
    known[string.sub(member, 1, 8)] = true
  end
  return known
end
local function place(key, ms, member)
  local after = '(' .. text(ms + 1)
  local last = redis.call('ZREVRANGEBYSCORE', key, after, text(ms), 'WITHSCORES', 'LIMIT', 0, 1)
  local score = ms
  if last[2] then
    score = tonumber(last[2]) + STEP
    if score >= ms + 1 then
      trim(key)
      local block = redis.call('ZRANGEBYSCORE', key, text(ms), after)
      for n, name in ipairs(block) do
        redis.call('ZADD', key, text(ms + (n - 1) * STEP), name)
      end
      score = ms + #block * STEP
    end
  end
  redis.call('ZADD', key, text(score), member)
end
local function bump(key)
  if type(redis.pcall('INCR', key)) ~= 'number' then
    local now = redis.call('TIME')
    redis.call('DEL', key)
    redis.call('SET', key, now[1] .. string.format('%06d', now[2]))
  end
  redis.call('EXPIRE', key, vttl)
end
local function tell(op, data)
  return redis.call('XADD', ev, 'MAXLEN', '~', cap, '*', 'op', op, 'data', data)
end
local function wish(id, op, data)
  local list = KEYS[#KEYS - 1]
  if redis.call('TYPE', list).ok ~= 'list' then redis.call('DEL', list) end
  redis.call('RPUSH', list, id .. ' ' .. op .. ' ' .. data)
  redis.call('LTRIM', list, -WISHES, -1)
end
local function forget(mark)
  local now = redis.call('TIME')
  redis.call('SET', mark, now[1] * 1000 + math.floor(now[2] / 1000), 'EX', FORGET)
end
""".replace("FORGET", str(FORGET_SECONDS)).replace("WISHES", str(MOST_WISHES))

# ARGV[5..] = (milliseconds, member, stream data) per event. Returns 1 or 0 per event.
# It writes also when it knows every event: a replica must refuse it, and WAIT wait for it.
APPEND = (
    _PRELUDE
    + """
local h = KEYS[1]
claim(h)
local known, added, changed = identities(h), {}, false
for n = 5, #ARGV, 3 do
  local identity = string.sub(ARGV[n + 1], 1, 8)
  if known[identity] then
    added[#added + 1] = 0
  else
    known[identity] = true
    changed = true
    place(h, tonumber(ARGV[n]), ARGV[n + 1])
    tell('event', ARGV[n + 2])
    added[#added + 1] = 1
  end
end
if changed then
  trim(h)
  bump(KEYS[2])
end
redis.call('EXPIRE', h, ttl)
return added
"""
)

# ARGV[5] = stream data, ARGV[6] = that of a deletion, ARGV[7..] = (milliseconds, member) per entry.
REPLACE = (
    _PRELUDE
    + """
local h, known = KEYS[1], {}
redis.call('DEL', h)
for n = 7, #ARGV, 2 do
  local identity = string.sub(ARGV[n + 1], 1, 8)
  if not known[identity] then
    known[identity] = true
    place(h, tonumber(ARGV[n]), ARGV[n + 1])
  end
end
trim(h)
redis.call('EXPIRE', h, ttl)
bump(KEYS[2])
wish(tell('replace', ARGV[5]), 'delete', ARGV[6])
return 1
"""
)

# KEYS[3..7] = the source's history, version, results, impressions, mark of deletion;
# KEYS[8] = the user's impressions. ARGV[5] = stream data. Returns the new length.
MERGE = (
    _PRELUDE
    + """
local h, source = KEYS[1], KEYS[3]
claim(h)
claim(source)
local known = identities(h)
local entries = redis.call('ZRANGE', source, 0, -1, 'WITHSCORES')
for n = 1, #entries, 2 do
  local identity, ms = string.sub(entries[n], 1, 8), math.floor(tonumber(entries[n + 1]))
  if not known[identity] and ms >= 0 and ms < 8796093022208 then
    known[identity] = true
    place(h, ms, entries[n])
  end
end
trim(h)
redis.call('EXPIRE', h, ttl)
if redis.call('TYPE', KEYS[6]).ok == 'hash' then
  local shown, left = redis.call('HGETALL', KEYS[6]), redis.call('TTL', KEYS[6])
  if redis.call('TYPE', KEYS[8]).ok ~= 'hash' then redis.call('DEL', KEYS[8]) end
  left = math.max(left, redis.call('TTL', KEYS[8]), 1)
  for n = 1, #shown, 2 do redis.call('HSET', KEYS[8], shown[n], shown[n + 1]) end
  redis.call('EXPIRE', KEYS[8], left)
end
redis.call('DEL', source, KEYS[5], KEYS[6])
forget(KEYS[7])
bump(KEYS[2])
bump(KEYS[4])
wish(tell('merge', ARGV[5]), 'merge', ARGV[5])
return redis.call('ZCARD', h)
"""
)

# KEYS[3..5] = results, impressions, mark of deletion. ARGV[5] = stream data.
# Returns 1 when anything was held.
DELETE = (
    _PRELUDE
    + """
local held = redis.call('DEL', KEYS[1], KEYS[3], KEYS[4])
forget(KEYS[5])
bump(KEYS[2])
-- The key names the user: no longer than the oldest answer that it has to outlive.
redis.call('EXPIRE', KEYS[2], 86400)
wish(tell('delete', ARGV[5]), 'delete', ARGV[5])
return held > 0 and 1 or 0
"""
)

# What was recommended goes no further than the users' own keys: no stream, no version. Of no use
# without the events that name it, so it is trimmed only now and then, and many users' share a call:
# an exchange costs more than what it carries. An answer that was on the way for longer than its
# age says counts as made later: hence the second of margin.
# KEYS = impressions, mark of deletion of each user. ARGV[1] = TTL (seconds), ARGV[2..] = (user's
# place among KEYS, age in milliseconds, recommendation id, record) each.
REMEMBER = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local gone, kept = {}, {}
for user = 1, #KEYS / 2 do
  local shown, mark = KEYS[2 * user - 1], redis.pcall('GET', KEYS[2 * user])
  local at = type(mark) == 'string' and tonumber(mark) or 0
  gone[user] = at < 1e15 and at or 0
  if redis.call('TYPE', shown).ok ~= 'hash' then redis.call('DEL', shown) end
end
for n = 2, #ARGV, 4 do
  local user = tonumber(ARGV[n])
  if now - tonumber(ARGV[n + 1]) > gone[user] + 1000 then
    redis.call('HSET', KEYS[2 * user - 1], ARGV[n + 2], ARGV[n + 3])
    kept[user] = true
  end
end
for user in pairs(kept) do
  local shown = KEYS[2 * user - 1]
  if redis.call('HLEN', shown) >= MOST + 8 then
    local ids = redis.call('HKEYS', shown)
    table.sort(ids)
    for n = 1, #ids - MOST do redis.call('HDEL', shown, ids[n]) end
  end
  redis.call('EXPIRE', shown, ARGV[1])
end
return 1
""".replace("MOST", str(MOST_SHOWN))

-- Ingest is about to unsubscribe channels upstream: take out of `held` those that may go.
-- KEYS: 1 refcount hash, 2 held set, 3 refused hash
-- ARGV: channels
-- Reply: the channels taken out.  The others are wanted, perhaps since a moment ago, and must stay.
-- An exact channel may go if nobody wants it or its wildcard is held; EV.* if nobody wants it and each channel of that
-- type that somebody wants is held itself or refused.  A gateway looks at `held` after it acquired, so it never trusts
-- what is about to go: either its count is seen here, or the channel is gone from `held` by then.
local function may_go(channel)
  local kind = string.match(channel, '^[^.]*')
  if channel ~= kind .. '.*' then
    return redis.call('HEXISTS', KEYS[1], channel) == 0 or redis.call('SISMEMBER', KEYS[2], kind .. '.*') == 1
  end
  if redis.call('HEXISTS', KEYS[1], channel) == 1 or redis.call('HEXISTS', KEYS[1], '*') == 1 then return false end
  for _, wanted in ipairs(redis.call('HKEYS', KEYS[1])) do
    if string.match(wanted, '^[^.]*') == kind and redis.call('SISMEMBER', KEYS[2], wanted) == 0
      and redis.call('HEXISTS', KEYS[3], wanted) == 0 then return false end
  end
  return true
end
local cleared = {}
for _, channel in ipairs(ARGV) do
  if may_go(channel) then
    redis.call('SREM', KEYS[2], channel)
    cleared[#cleared + 1] = channel
  end
end
return cleared

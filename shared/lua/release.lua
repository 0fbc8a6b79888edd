-- A gateway wants channels no more.
-- KEYS: 1 refcount hash, 2 the gateway's channels set
-- ARGV: 1 pub/sub channel for demand notices, 2.. channels
-- Reply: number of channels released.  What the gateway does not count for is left alone.
local edges, released = {}, 0
for i = 2, #ARGV do
  if redis.call('SREM', KEYS[2], ARGV[i]) == 1 then
    released = released + 1
    if redis.call('HINCRBY', KEYS[1], ARGV[i], -1) <= 0 then
      redis.call('HDEL', KEYS[1], ARGV[i])
      edges[#edges + 1] = ARGV[i]
    end
  end
end
if #edges > 0 then redis.call('PUBLISH', ARGV[1], cjson.encode(edges)) end
return released

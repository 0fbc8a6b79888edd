-- A gateway starts to want channels.
-- KEYS: 1 refcount hash, 2 the gateway's channels set, 3 the gateway's lease
-- ARGV: 1 pub/sub channel for demand notices, 2.. channels
-- Reply: number of channels newly counted, or -1 if the lease is gone (then nothing was done).
-- A channel that the gateway already counts for is left alone, so a repeat after a lost reply is harmless.
if redis.call('EXISTS', KEYS[3]) == 0 then return -1 end
local edges, added = {}, 0
for i = 2, #ARGV do
  if redis.call('SADD', KEYS[2], ARGV[i]) == 1 then
    added = added + 1
    if redis.call('HINCRBY', KEYS[1], ARGV[i], 1) == 1 then edges[#edges + 1] = ARGV[i] end
  end
end
if #edges > 0 then redis.call('PUBLISH', ARGV[1], cjson.encode(edges)) end
return added

-- Take back what a dead gateway counts for, a bounded number of channels a call, since Redis stands still meanwhile.
-- KEYS: 1 refcount hash, 2 the gateway's channels set, 3 the gateway's lease, 4 set of gateways
-- ARGV: 1 pub/sub channel for demand notices, 2 gateway id, 3 most channels to take back
-- Reply: number of channels taken back; -1 if the gateway lives; 0 once nothing is left and it is forgotten.
if redis.call('EXISTS', KEYS[3]) == 1 then return -1 end
local channels, edges = redis.call('SPOP', KEYS[2], ARGV[3]), {}
for _, channel in ipairs(channels) do
  if redis.call('HINCRBY', KEYS[1], channel, -1) <= 0 then
    redis.call('HDEL', KEYS[1], channel)
    edges[#edges + 1] = channel
  end
end
if #channels == 0 then redis.call('SREM', KEYS[4], ARGV[2]) end
if #edges > 0 then redis.call('PUBLISH', ARGV[1], cjson.encode(edges)) end
return #channels

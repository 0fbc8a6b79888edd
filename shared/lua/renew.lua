-- A gateway renews its lease and leaves its statistics there.
-- KEYS: 1 the gateway's lease
-- ARGV: 1 lease in milliseconds, 2.. field, value, field, value
-- Reply: 1, or 0 if the lease was gone (then it must join again and re-assert what it holds).
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
for i = 2, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1

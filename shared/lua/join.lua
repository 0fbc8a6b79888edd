-- A gateway takes a lease, at its start or after it lost one.
-- KEYS: 1 set of gateways, 2 the gateway's lease
-- ARGV: 1 gateway id, 2 lease in milliseconds, 3 since (Unix seconds)
-- Reply: 1
redis.call('SADD', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[2], 'since', ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1

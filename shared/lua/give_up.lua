-- An ingest gives up the upstream slot, if it still has it.
-- KEYS: 1 slot
-- ARGV: 1 holder
-- Reply: 1 if it had it, else 0.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])

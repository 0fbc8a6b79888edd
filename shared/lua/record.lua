-- A gateway writes the record of a client that can resume, if the name is still its own and the connection not over.
-- KEYS: 1 the record
-- ARGV: 1 how the record of this connection begins while it is open, 2 whether (1 or 0) to take the name over,
--       3 the record's JSON, 4 seconds to keep it
-- Reply: 1, or 0 if another connection has the name, or this one has said its last word; then nothing was done.
local record = redis.call('GET', KEYS[1])
if record and ARGV[2] ~= '1' and string.sub(record, 1, #ARGV[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[3], 'EX', ARGV[4])
return 1

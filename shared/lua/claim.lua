-- An ingest takes or keeps the upstream slot.
-- KEYS: 1 slot, 2 upstream hash
-- ARGV: 1 holder, 2 its epoch or 0, 3 lease in milliseconds, 4 the least epoch to give out (Unix milliseconds),
--       5 whether (1 or 0) to take the slot if nobody has it
-- Reply: the epoch under which the holder has the slot; 0 if another has it or had it since; -1 if nobody has it;
--        -2 if Redis knows of no epoch at all, as it is empty.
local holder = redis.call('GET', KEYS[1])
local epoch = tonumber(redis.call('HGET', KEYS[2], 'epoch') or '0')
local mine = tonumber(ARGV[2])
if holder and holder ~= ARGV[1] then return 0 end
if mine > 0 and epoch > mine then return 0 end
if mine == 0 and ARGV[5] ~= '1' then return epoch == 0 and -2 or -1 end
if mine == 0 then mine = math.max(epoch + 1, tonumber(ARGV[4])) end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
redis.call('HSET', KEYS[2], 'epoch', string.format('%d', mine))
return mine

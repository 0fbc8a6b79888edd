-- A gateway writes the record of a client that can resume, unless a later connection has the name or this one is over.
-- KEYS: 1 the record
-- ARGV: 1 the connection's claim, 0 to take the name over, 2 the least claim to give out (Unix milliseconds),
--       3 the record's JSON without its opening brace, '"is_open":' first, 4 seconds to keep it
-- Reply: the claim that the connection has; 0 if a record of a later claim is there, or its own last word; then nothing
--        was done.
-- An earlier claim is no reason to refuse: so it is when Redis came back with older data.  A record without a claim is
-- of a gateway before there were any, earlier than all.
local record = redis.call('GET', KEYS[1]) or ''
local claim, is_open = string.match(record, '^{"claim":(%d+),"is_open":(%a+),')
local last = tonumber(claim or '0')
local mine = tonumber(ARGV[1])
if mine > 0 and (last > mine or last == mine and is_open == 'false') then return 0 end
if mine == 0 then mine = math.max(last + 1, tonumber(ARGV[2])) end
redis.call('SET', KEYS[1], '{"claim":' .. string.format('%d', mine) .. ',' .. ARGV[3], 'EX', ARGV[4])
return mine

-- End a background job and keep its answer. Only its keeper may, but anyone may cancel it; the first end stays.
-- KEYS: record, keeper of each open job, kept jobs by when they are forgotten, bytes of all records, webhooks by when they are due
-- ARGV: id, keeper (empty for a cancellation), state, outcome, answer, size in bytes, keep ms
-- Answers 1 if this ended it.
local record = redis.call('HMGET', KEYS[1], 'state', 'keeper', 'size', 'webhook')
if record[1] ~= 'open' or (ARGV[2] ~= '' and record[2] ~= ARGV[2]) then
  return 0
end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('HSET', KEYS[1], 'state', ARGV[3], 'outcome', ARGV[4], 'answer', ARGV[5], 'size', ARGV[6], 'ended', now,
  'expires', now + ARGV[7])
redis.call('HDEL', KEYS[1], 'job', 'keeper')
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[3], now + ARGV[7], ARGV[1])
redis.call('INCRBY', KEYS[4], ARGV[6] - record[3])
if record[4] then
  redis.call('ZADD', KEYS[5], now, ARGV[1])
end
return 1

-- Note a background job, once: asking again answers what was asked first.
-- KEYS: record, jobs of its key, keeper of each open job, bytes of all records
-- ARGV: id, digest, size in bytes, most bytes of all, keeper, key id, job, about, queue id, webhook (may be empty)
-- Answers {'created'}, {'known', digest} or {'full', bytes}.
local known = redis.call('HGET', KEYS[1], 'digest')
if known then
  return {'known', known}
end
local bytes = tonumber(redis.call('GET', KEYS[4]) or 0)
if bytes + tonumber(ARGV[3]) > tonumber(ARGV[4]) then
  return {'full', bytes}
end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('HSET', KEYS[1], 'digest', ARGV[2], 'size', ARGV[3], 'state', 'open', 'keeper', ARGV[5], 'key', ARGV[6],
  'job', ARGV[7], 'about', ARGV[8], 'queued_as', ARGV[9], 'created', now)
if ARGV[10] ~= '' then
  redis.call('HSET', KEYS[1], 'webhook', ARGV[10])
end
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('HSET', KEYS[3], ARGV[1], ARGV[5])
redis.call('INCRBY', KEYS[4], ARGV[3])
return {'created'}

-- Heartbeats whose lease holds; those long gone are forgotten.
-- KEYS: leases, ready, beats
-- ARGV: forget after ms
-- Answers the heartbeats.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[1])) do
  redis.call('HDEL', KEYS[3], name)
  redis.call('ZREM', KEYS[2], name)
  redis.call('ZREM', KEYS[1], name)
end
local names = redis.call('ZRANGEBYSCORE', KEYS[1], now, '+inf')
if #names == 0 then
  return {}
end
return redis.call('HMGET', KEYS[3], unpack(names))

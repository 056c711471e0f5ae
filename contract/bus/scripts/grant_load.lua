-- Grant a host the load of a model, or renew the grant.
-- KEYS: grants
-- ARGV: host, lease ms, whether it may join others (1 or 0)
-- Answers 1 if the host has the grant, else 0.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. now)
local holders = redis.call('ZCARD', KEYS[1])
if holders > 0 and ARGV[3] == '0' and not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return 0
end
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1

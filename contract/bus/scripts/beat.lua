-- Renew a lease and publish a heartbeat.
-- KEYS: leases, ready, beats, whether one has lapsed just now
-- ARGV: name, heartbeat, lease ms, ready (1 or 0), forget after ms, time for all to beat ms
-- Answers 1 if the lease had lapsed since the last beat (others may have taken its jobs), else 0.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local lease = redis.call('ZSCORE', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
if ARGV[4] == '1' then
  redis.call('ZADD', KEYS[2], now + ARGV[3], ARGV[1])
else
  redis.call('ZREM', KEYS[2], ARGV[1])
end
redis.call('HSET', KEYS[3], ARGV[1], ARGV[2])
for _, key in ipairs({KEYS[1], KEYS[2], KEYS[3]}) do
  redis.call('PEXPIRE', key, ARGV[3] + ARGV[5])
end
if lease and tonumber(lease) >= now then
  return 0
end
if lease then
  redis.call('SET', KEYS[4], 1, 'PX', ARGV[6])
end
return 1

-- The heartbeats of processes whose lease holds; those long gone are forgotten.
local function living(leases, ready, beats, forget_after_ms)
  local clock = redis.call('TIME')
  local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now - forget_after_ms)) do
    redis.call('HDEL', beats, name)
    redis.call('ZREM', ready, name)
    redis.call('ZREM', leases, name)
  end
  local names = redis.call('ZRANGEBYSCORE', leases, now, '+inf')
  if #names == 0 then
    return {}
  end
  return redis.call('HMGET', beats, unpack(names))
end

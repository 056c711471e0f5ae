-- Webhooks that are due, for the first process that asks: they are due again if it reports nothing for a while.
-- KEYS: webhooks by when they are due
-- ARGV: most at once, due again after ms
-- Answers the ids of their jobs.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
for _, id in ipairs(due) do
  redis.call('ZADD', KEYS[1], now + ARGV[2], id)
end
return due

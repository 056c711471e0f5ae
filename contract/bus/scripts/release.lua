-- Give a job back unfinished, so that any worker may take it over at once; or end it, if it was
-- cancelled meanwhile. The attempt is not counted against the job, but its number is used up: it
-- fences.
-- KEYS: queue, job
-- ARGV: group, entry id, worker, attempt, keep ms, what it used (`usage.lua`)
-- Answers 1 if it was given back or ended, 0 if another attempt owns it.
local job = redis.call('HMGET', KEYS[2], 'worker', 'attempt', 'cancelled', 'state')
if job[1] ~= ARGV[3] or job[2] ~= ARGV[4] then
  return 0
end
keep_use(prefix_of(KEYS[1]), KEYS[2], ARGV[3], ARGV[6])
if job[3] and job[4] == 'running' then
  redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
  redis.call('XDEL', KEYS[1], ARGV[2])
  redis.call('HSET', KEYS[2], 'state', 'cancelled')
  redis.call('PEXPIRE', KEYS[2], ARGV[5])
  cancel_use(prefix_of(KEYS[1]), KEYS[2], '', true, redis.call('TIME')[1])
  return 1
end
redis.call('HSET', KEYS[2], 'worker', '')
redis.call('HINCRBY', KEYS[2], 'forgiven', 1)
redis.call('HDEL', KEYS[2], 'alone')
redis.call('XCLAIM', KEYS[1], ARGV[1], 'released', 0, ARGV[2], 'JUSTID')
return 1

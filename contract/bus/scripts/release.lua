-- Give a job back unfinished, so that any worker may take it over at once; or end it, if it was
-- cancelled meanwhile. The attempt is not counted against the job, but its number is used up: it
-- fences.
-- KEYS: queue, job
-- ARGV: group, entry id, worker, attempt, keep ms, what it used (`usage.lua`)
-- Answers 1 if it was given back or ended, 0 if another attempt owns it.
local job, prefix = read_job(KEYS[2]), prefix_of(KEYS[1])
if job.worker ~= ARGV[3] or job.attempt ~= ARGV[4] then
  return 0
end
keep_use(prefix, job, ARGV[3], ARGV[6])
if job.cancelled and job.state == 'running' then
  local now_s = redis.call('TIME')[1]
  redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
  redis.call('XDEL', KEYS[1], ARGV[2])
  redis.call('HSET', KEYS[2], 'state', 'cancelled')
  redis.call('PEXPIRE', KEYS[2], ARGV[5])
  cancel_use(prefix, job, '', now_s)
  write_accounts()
  write_use(prefix, now_s)
  return 1
end
redis.call('HSET', KEYS[2], 'worker', '')
redis.call('HINCRBY', KEYS[2], 'forgiven', 1)
redis.call('HDEL', KEYS[2], 'alone')
redis.call('XCLAIM', KEYS[1], ARGV[1], 'released', 0, ARGV[2], 'JUSTID')
return 1

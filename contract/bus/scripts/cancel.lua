-- Cancel a job. While no worker runs it, it leaves the queue at once; workers that may run it are told.
-- KEYS: job, cancellations, queue, leases
-- ARGV: job id, group, keep ms
-- Answers 1 if the job was still open, 0 if not, or the name of the model that it has moved to.
local job = redis.call('HMGET', KEYS[1], 'state', 'worker', 'entry', 'begun', 'moved_to')
if job[1] == 'moved' then
  return job[5]
end
if job[1] ~= 'queued' and job[1] ~= 'running' then
  return 0
end
redis.call('HSET', KEYS[1], 'cancelled', 1)
local now = time_ms()
local lease = job[2] and redis.call('ZSCORE', KEYS[4], job[2])
local is_held = lease and tonumber(lease) >= now
if job[3] and not is_held then
  leave(prefix_of(KEYS[3]), job[3])
  redis.pcall('XACK', KEYS[3], ARGV[2], job[3])
  redis.call('XDEL', KEYS[3], job[3])
  redis.call('HSET', KEYS[1], 'state', 'cancelled')
  cancel_use(prefix_of(KEYS[3]), KEYS[1], job[2], job[4], math.floor(now / 1000))
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
if job[2] and job[2] ~= '' then
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', 10000, '*', 'job', ARGV[1])
  redis.call('PEXPIRE', KEYS[2], ARGV[3])
end
return 1

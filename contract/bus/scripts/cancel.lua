-- Cancel a job. While nobody runs it, it leaves the queue at once; else whoever runs it is told.
-- KEYS: job, cancellations, queue
-- ARGV: job id, group, keep ms
-- Answers 1 if the job was still open.
local job = redis.call('HMGET', KEYS[1], 'state', 'worker', 'entry')
if job[1] ~= 'queued' and job[1] ~= 'running' then
  return 0
end
redis.call('HSET', KEYS[1], 'cancelled', 1)
local was_released = job[1] == 'running' and job[2] == ''
if job[3] and (job[1] == 'queued' or was_released) then
  redis.pcall('XACK', KEYS[3], ARGV[2], job[3])
  redis.call('XDEL', KEYS[3], job[3])
  redis.call('HSET', KEYS[1], 'state', 'cancelled')
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
else
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', 10000, '*', 'job', ARGV[1])
end
return 1

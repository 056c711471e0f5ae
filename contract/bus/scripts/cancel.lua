-- Cancel a job: it is dropped when claimed, and whoever runs it now is told.
-- KEYS: job, cancellations
-- ARGV: job id
-- Answers 1 if the job was still open.
local state = redis.call('HGET', KEYS[1], 'state')
if state ~= 'queued' and state ~= 'running' then
  return 0
end
redis.call('HSET', KEYS[1], 'cancelled', 1)
redis.call('XADD', KEYS[2], 'MAXLEN', '~', 10000, '*', 'job', ARGV[1])
return 1

-- Do not count an attempt against its job: it got further than those before it.
-- KEYS: job
-- ARGV: worker, attempt
-- Answers 1 if it was this attempt's to say, 0 if another attempt owns the job.
local job = redis.call('HMGET', KEYS[1], 'worker', 'attempt')
if job[1] ~= ARGV[1] or job[2] ~= ARGV[2] then
  return 0
end
redis.call('HINCRBY', KEYS[1], 'forgiven', 1)
return 1

-- Others are begun beside a job that had a worker to itself: should that be lost now, the job is
-- not convicted. If it got on alone, the workers that it lost before do not count against it.
-- KEYS: job
-- ARGV: worker, attempt, got on (1 or 0)
-- Answers 1 if it was this attempt's to say, 0 if another attempt owns the job.
local job = redis.call('HMGET', KEYS[1], 'worker', 'attempt', 'begun')
if job[1] ~= ARGV[1] or job[2] ~= ARGV[2] then
  return 0
end
redis.call('HDEL', KEYS[1], 'alone')
if ARGV[3] == '1' then
  redis.call('HSET', KEYS[1], 'forgiven', job[3] - 1)
  redis.call('HDEL', KEYS[1], 'evidence')
  redis.call('HINCRBY', KEYS[1], 'acquitted', 1)
end
return 1

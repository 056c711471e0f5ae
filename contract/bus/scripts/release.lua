-- Give a job back unfinished, so that any worker may take it over at once. The attempt is not
-- counted against the job, but its number is used up: it fences.
-- KEYS: queue, job
-- ARGV: group, entry id, worker, attempt
-- Answers 1 if it was given back, 0 if another attempt owns it.
local job = redis.call('HMGET', KEYS[2], 'worker', 'attempt')
if job[1] ~= ARGV[3] or job[2] ~= ARGV[4] then
  return 0
end
redis.call('HSET', KEYS[2], 'worker', '')
redis.call('HINCRBY', KEYS[2], 'forgiven', 1)
redis.call('XCLAIM', KEYS[1], ARGV[1], 'released', 0, ARGV[2], 'JUSTID')
return 1

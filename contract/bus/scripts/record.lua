-- What is held against a job that was claimed from a lost worker.
-- KEYS: queue, job
-- Answers how many workers it lost since it last got on with one to itself, how often it did, and 1 if it had the last
--   one to itself, which may have been killed. Or {'failed', why}: it cannot be read.
local function record()
  local job = redis.call('HMGET', KEYS[2], 'begun', 'forgiven', 'acquitted', 'attempt', 'alone', 'worker')
  local lost_alone = job[5] and job[5] == job[4]
  local in_doubt = lost_alone and ended_by(prefix_of(KEYS[1]), job[6]) ~= 'itself'
  return {(job[1] or 0) - (job[2] or 0), tonumber(job[3] or 0), in_doubt and 1 or 0}
end
return apart(record)

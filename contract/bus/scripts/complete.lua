-- End a job, if this worker's attempt still owns it. Safe to repeat: the first end stays.
-- KEYS: queue, job
-- ARGV: group, entry id, worker, attempt, state, keep ms, tokens that it took
-- Answers 1 if the job is now (or was already) ended by this attempt, 0 if another attempt owns it.
local job = redis.call('HMGET', KEYS[2], 'worker', 'attempt', 'state', 'place')
if job[1] ~= ARGV[3] or job[2] ~= ARGV[4] then
  return 0
end
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
redis.call('XDEL', KEYS[1], ARGV[2])
if job[3] == 'running' then
  redis.call('HSET', KEYS[2], 'state', ARGV[5])
  redis.call('PEXPIRE', KEYS[2], ARGV[6])
  let_out(KEYS[2], tonumber(ARGV[7]), redis.call('TIME')[1] * 1000)
  if job[4] then
    settle(prefix_of(KEYS[1]), job[4], ARGV[7] - parse(job[4]).cost)
  end
end
return 1

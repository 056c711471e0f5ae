-- End a job, if this worker's attempt still owns it. Safe to repeat: the first end stays.
-- KEYS: queue, job
-- ARGV: group, entry id, worker, attempt, state, keep ms, what it used (`usage.lua`), days to keep the count, and its life
-- Answers 1 if the job is now (or was already) ended by this attempt, 0 if another attempt owns it.
local job = redis.call('HMGET', KEYS[2], 'worker', 'attempt', 'state', 'place', 'used', 'yielded')
if job[1] ~= ARGV[3] or job[2] ~= ARGV[4] then
  return 0
end
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
redis.call('XDEL', KEYS[1], ARGV[2])
if job[3] == 'running' then
  local clock = redis.call('TIME')
  local prefix, now_s = prefix_of(KEYS[1]), clock[1]
  redis.call('HSET', KEYS[2], 'state', ARGV[5], 'ended', clock[1] * 1000 + math.floor(clock[2] / 1000))
  redis.call('PEXPIRE', KEYS[2], ARGV[6])
  local use = use_of(ARGV[7], job[5], ARGV[5] == 'done')
  local tokens = count_use(prefix, KEYS[2], ARGV[5], use, now_s, ARGV[8])
  forget_lives(prefix, now_s, ARGV[9])
  let_out(KEYS[2], tokens, now_s * 1000)
  if job[4] then
    settle(prefix, job[4], tokens - parse(job[4]).cost * (1 + (job[6] or 0)))
  end
end
return 1

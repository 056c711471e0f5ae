-- Give a job back, so that another has its turn: it waits again, where it was, and any worker may claim it. As after
-- `release`, the attempt is not counted against the job, and its number is used up.
-- KEYS: queue, job
-- ARGV: group, entry id, worker, attempt, what it used (`usage.lua`)
-- Answers 1 if it waits again, 0 if another attempt owns it, or if it was cancelled: then it is to be released.
local job = redis.call('HMGET', KEYS[2], 'worker', 'attempt', 'cancelled', 'state', 'place', 'wanted')
if job[1] ~= ARGV[3] or job[2] ~= ARGV[4] or job[3] or job[4] ~= 'running' or not job[5] then
  return 0
end
keep_use(prefix_of(KEYS[1]), KEYS[2], ARGV[3], ARGV[5])
redis.call('HSET', KEYS[2], 'worker', '')
redis.call('HINCRBY', KEYS[2], 'forgiven', 1)
redis.call('HINCRBY', KEYS[2], 'yielded', 1)
redis.call('HDEL', KEYS[2], 'alone')
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
-- Its key pays for each turn, and is paid back when the job ends. If the turn to go on cost nothing, the key would stay at the
-- virtual time however many places it holds, and level with every key that begins to wait.
join(prefix_of(KEYS[1]), ARGV[2], job[5], tonumber(job[6]), time_ms())
return 1

-- Give a job back, so that another has its turn: it waits again, where it was, and any worker may claim it. As after
-- `release`, the attempt is not counted against the job, and its number is used up.
-- KEYS: queue, job
-- ARGV: group, entry id, worker, attempt, what it used (`usage.lua`)
-- Answers 1 if it waits again, 0 if another attempt owns it, or if it was cancelled: then it is to be released.
local job, prefix = read_job(KEYS[2], 'wanted'), prefix_of(KEYS[1])
local is_own = job.worker == ARGV[3] and job.attempt == ARGV[4]
if not is_own or job.cancelled or job.state ~= 'running' or not job.place then
  return 0
end
keep_use(prefix, job, ARGV[3], ARGV[5])
redis.call('HSET', KEYS[2], 'worker', '')
redis.call('HINCRBY', KEYS[2], 'forgiven', 1)
redis.call('HINCRBY', KEYS[2], 'yielded', 1)
redis.call('HDEL', KEYS[2], 'alone')
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
-- Its key pays for each turn, and is paid back when the job ends. If the turn to go on cost nothing, the key would stay at the
-- virtual time however many places it holds, and level with every key that begins to wait.
join(prefix, ARGV[2], job.place, tonumber(job.wanted), time_ms())
wake(prefix, 1)
return 1

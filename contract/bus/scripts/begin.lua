-- A worker begins attempts at jobs that it claimed. An attempt's number is the fencing token: the time in microseconds, so
-- that a server which has lost the last one (a replica that was promoted) does not give it again.
-- A job that lost too many workers, and is known to be to blame for the last of them (`blame.lua`), is convicted.
-- KEYS: queue, dead letters, then the jobs
-- ARGV: group, worker, max attempts, keep ms, alone (1 or 0), most dead letters, keep those ms, then the entry id of each job
-- Answers for each job {'run'|'expired'|'poison', number, attempts so far, reply, first, deadline left ms}: run it, or tell
--   the client why not; either way complete it. Or {'drop'}: it is another's, or no client waits for it. Or {'failed', why}:
--   its record cannot be read, and says that it has failed, if it can say anything.
local clock, prefix = redis.call('TIME'), prefix_of(KEYS[1])

local function drop(entry)
  redis.call('XACK', KEYS[1], ARGV[1], entry)
  redis.call('XDEL', KEYS[1], entry)
  return {'drop'}
end

-- Move what the entry has to the dead letters, once.
local function bury(entry, job)
  local found = redis.call('XRANGE', KEYS[1], entry, entry)
  if found[1] and redis.call('HSETNX', job.key, 'poison', 1) == 1 then
    redis.call('XADD', KEYS[2], 'MAXLEN', ARGV[6], '*', 'reason', 'poison', 'workers', job.workers or '',
      unpack(found[1][2]))
    redis.call('XTRIM', KEYS[2], 'MINID', string.format('%.0f', clock[1] * 1000 - ARGV[7]))
    redis.call('PEXPIRE', KEYS[2], ARGV[7])
  end
end

local function begin(entry, job_key)
  local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], entry, entry, 1)
  if pending.err or not pending[1] or pending[1][2] ~= ARGV[2] then
    return {'drop'}
  end
  local job = read_job(job_key, 'deadline', 'first', 'forgiven', 'alone')
  if job.state ~= 'queued' and job.state ~= 'running' then
    return drop(entry)
  end
  if job.cancelled then
    redis.call('HSET', job_key, 'state', 'cancelled')
    redis.call('PEXPIRE', job_key, ARGV[4])
    cancel_use(prefix, job, job.worker, clock[1])
    return drop(entry)
  end
  waits_no_more(job)
  if job.worker and job.worker ~= '' then
    keep_use(prefix, job, job.worker)
  end
  local former, begun = tonumber(job.attempt or 0), (job.begun or 0) + 1
  local number = math.max(former + 1, clock[1] * 1000000 + clock[2])
  local numbered = string.format('%.0f', number)
  redis.call('HSET', job_key, 'state', 'running', 'worker', ARGV[2], 'workers', (job.workers or '') .. ' ' .. ARGV[2],
    'attempt', numbered, 'began', (job.began or '') .. ' ' .. numbered, 'begun', begun)
  -- The same worker begins it again if the answer to the first call was lost.
  local lost_alone = job.alone and tonumber(job.alone) == former and job.worker ~= ARGV[2]
  local is_to_blame = lost_alone and blame(prefix, job_key, job.worker)
  local left = job.deadline - (clock[1] * 1000 + math.floor(clock[2] / 1000))
  local verdict = 'run'
  if left <= 0 then
    verdict = 'expired'
  elseif job.poison or (is_to_blame and begun > ARGV[3] + (job.forgiven or 0)) then
    verdict = 'poison'
    bury(entry, job)
  end
  if ARGV[5] == '1' then
    redis.call('HSET', job_key, 'alone', numbered)
  elseif job.alone then
    redis.call('HDEL', job_key, 'alone')
  end
  return {verdict, number, begun, job.reply, job.first, left}
end

local answers = {}
for i = 3, #KEYS do
  local answer = apart(begin, ARGV[i + 5], KEYS[i])
  if answer[1] == 'failed' then
    redis.pcall('HSET', KEYS[i], 'state', 'failed')
    redis.pcall('PEXPIRE', KEYS[i], ARGV[4])
  end
  answers[i - 2] = answer
end
write_accounts()
write_use(prefix, clock[1])
return answers

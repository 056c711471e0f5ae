-- A worker begins an attempt at a job that it claimed. The attempt's number is the fencing token: the time
-- in microseconds, so that a server which has lost the last one (a replica that was promoted) does not give
-- it again.
-- A job that lost too many workers, and is known to be to blame for the last of them (`blame.lua`), is convicted.
-- KEYS: queue, job, dead letters
-- ARGV: group, entry id, worker, max attempts, keep ms, alone (1 or 0), most dead letters, keep those ms
-- Answers {'run'|'expired'|'poison', number, attempts so far, reply, first, deadline left ms}: run it, or tell the
--   client why not; either way complete it. Or {'drop'}: it is another's, or no client waits for it.
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1)
if pending.err or not pending[1] or pending[1][2] ~= ARGV[3] then
  return {'drop'}
end
local job = redis.call('HMGET', KEYS[2], 'state', 'attempt', 'cancelled', 'deadline', 'reply', 'first',
  'forgiven', 'alone', 'workers', 'poison', 'begun', 'worker', 'began')
local clock = redis.call('TIME')
local is_open = job[1] == 'queued' or job[1] == 'running'
if not is_open or job[3] then
  if is_open then
    redis.call('HSET', KEYS[2], 'state', 'cancelled')
    redis.call('PEXPIRE', KEYS[2], ARGV[5])
    cancel_use(prefix_of(KEYS[1]), KEYS[2], job[12], job[11], clock[1])
  end
  redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
  redis.call('XDEL', KEYS[1], ARGV[2])
  return {'drop'}
end
local left = tonumber(job[4]) - (clock[1] * 1000 + math.floor(clock[2] / 1000))
local former = tonumber(job[2] or 0)
local number = math.max(former + 1, clock[1] * 1000000 + clock[2])
local begun = redis.call('HINCRBY', KEYS[2], 'begun', 1)
waits_no_more(KEYS[2])
if job[12] and job[12] ~= '' then
  keep_use(prefix_of(KEYS[1]), KEYS[2], job[12])
end
local lost = job[9] or ''
local numbered = string.format('%.0f', number)
redis.call('HSET', KEYS[2], 'state', 'running', 'worker', ARGV[3], 'workers', lost .. ' ' .. ARGV[3],
  'attempt', numbered, 'began', (job[13] or '') .. ' ' .. numbered)
local verdict = 'run'
local limit = tonumber(ARGV[4]) + tonumber(job[7] or 0)
-- The same worker begins it again if the answer to the first call was lost.
local lost_alone = job[8] and tonumber(job[8]) == former and job[12] ~= ARGV[3]
local is_to_blame = lost_alone and blame(prefix_of(KEYS[1]), KEYS[2], job[12])
if left <= 0 then
  verdict = 'expired'
elseif job[10] or (is_to_blame and begun > limit) then
  verdict = 'poison'
  local entry = redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])
  if entry[1] and redis.call('HSETNX', KEYS[2], 'poison', 1) == 1 then
    redis.call('XADD', KEYS[3], 'MAXLEN', ARGV[7], '*', 'reason', 'poison', 'workers', lost,
      unpack(entry[1][2]))
    redis.call('XTRIM', KEYS[3], 'MINID', string.format('%.0f', clock[1] * 1000 - ARGV[8]))
    redis.call('PEXPIRE', KEYS[3], ARGV[8])
  end
end
if ARGV[6] == '1' then
  redis.call('HSET', KEYS[2], 'alone', numbered)
else
  redis.call('HDEL', KEYS[2], 'alone')
end
return {verdict, number, begun, job[5], job[6], left}

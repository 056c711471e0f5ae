-- A worker begins an attempt at a job that it claimed. The attempt's number is the fencing token.
-- KEYS: queue, job, dead letters
-- ARGV: group, entry id, worker, max attempts, keep ms
-- Answers {'run', attempt, reply, first, deadline left ms},
--   {'expired'|'poison', attempt, reply, first} (this worker must tell the client), or {'drop'}.
local job = redis.call('HMGET', KEYS[2], 'state', 'attempt', 'cancelled', 'deadline', 'reply', 'first',
  'released')
local function finish(state)
  if job[1] then
    redis.call('HSET', KEYS[2], 'state', state)
    redis.call('PEXPIRE', KEYS[2], ARGV[5])
  end
  redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
  redis.call('XDEL', KEYS[1], ARGV[2])
end
if not job[1] then
  finish('lost')
  return {'drop'}
end
if job[1] ~= 'queued' and job[1] ~= 'running' then
  finish(job[1])
  return {'drop'}
end
if job[3] then
  finish('cancelled')
  return {'drop'}
end
local clock = redis.call('TIME')
local left = tonumber(job[4]) - (clock[1] * 1000 + math.floor(clock[2] / 1000))
local attempt = redis.call('HINCRBY', KEYS[2], 'attempt', 1)
if left <= 0 then
  finish('expired')
  return {'expired', attempt, job[5], job[6]}
end
if attempt > tonumber(ARGV[4]) + tonumber(job[7] or 0) then
  local entry = redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])
  if entry[1] then
    redis.call('XADD', KEYS[3], 'MAXLEN', '~', 1000, '*', 'reason', 'poison', unpack(entry[1][2]))
  end
  finish('dead')
  return {'poison', attempt, job[5], job[6]}
end
redis.call('HSET', KEYS[2], 'state', 'running', 'worker', ARGV[3])
return {'run', attempt, job[5], job[6], left}

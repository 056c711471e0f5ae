-- Move a job that waits to another model, which does it instead: out of one queue and into the other in one step, with its
-- deadline, its limits, its media and the place of its answer. A worker that claims it at the same moment has it, or it
-- moves. Its record stays behind as `moved`, for those who still look for it there. Safe to repeat.
-- KEYS: queue, job, queue of the other model, job there, ready workers there, hosts that would load that model; then, of a
--   request that may come again, the model that it went to (`KnownRequests`)
-- ARGV: group, other model, payload, lane, weight, cost, job id, API key id, within ms (is kept), max waiting, max bytes
--   of the queue (0: any), keep ms, this model
-- Answers {'moved', model, jobs before it there}; {'stays'}: a worker has it or had it, it was cancelled, or it is over;
--   {'full'} or {'unserved'}: the other model does not take it now.
local job = read_job(KEYS[2], 'wanted')
if job.state == 'moved' then
  return {'moved', job.moved_to, 0}
end
local from, to, now = prefix_of(KEYS[1]), prefix_of(KEYS[3]), time_ms()
local entry = job.entry
if job.state ~= 'queued' or job.cancelled or job.begun or redis.call('HEXISTS', from .. 'places', entry) == 0
    or redis.call('EXISTS', KEYS[4]) == 1 then
  return {'stays'}
end
-- A worker of an earlier ew may have claimed it past the order.
if #redis.call('XPENDING', KEYS[1], ARGV[1], entry, entry, 1) > 0 then
  return {'stays'}
end
if redis.call('ZCOUNT', KEYS[5], now, '+inf') == 0 and redis.call('ZCOUNT', KEYS[6], now, '+inf') == 0 then
  return {'unserved'}
end
local pending = redis.pcall('XPENDING', KEYS[3], ARGV[1])
if pending.err then
  redis.call('XGROUP', 'CREATE', KEYS[3], ARGV[1], '0', 'MKSTREAM')
  pending = {0}
end
local waiting = redis.call('XLEN', KEYS[3]) - pending[1]
if waiting >= tonumber(ARGV[10]) then
  return {'full'}
end
local of_media = tonumber(redis.call('HGET', media_index(KEYS[2]), ARGV[7]) or 0)
if tonumber(ARGV[11]) > 0 then
  local bytes = redis.call('MEMORY', 'USAGE', KEYS[3], 'SAMPLES', '0') or 0
  if bytes + media_bytes(KEYS[4]) + #ARGV[3] + of_media > tonumber(ARGV[11]) then
    return {'full'}
  end
end

leave(from, entry)
redis.call('XDEL', KEYS[1], entry)
local kept_ms = redis.call('PTTL', KEYS[2])
local place = table.concat({ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]}, ' ')
local new = redis.call('XADD', KEYS[3], '*', 'job', ARGV[3])
redis.call('HSET', KEYS[4], unpack(redis.call('HGETALL', KEYS[2])))
redis.call('HSET', KEYS[4], 'entry', new, 'place', place, 'moved_from', ARGV[13])
redis.call('PEXPIRE', KEYS[4], kept_ms)
if of_media > 0 and redis.call('EXISTS', KEYS[2] .. ':media') == 1 then
  move_media(KEYS[2], KEYS[4], of_media, kept_ms)
end
local begins_to_wait = join(to, new, place, tonumber(job.wanted), now)
wake(to, 1)
tell_of_key(to, begins_to_wait, ARGV[12])
redis.call('HSET', KEYS[2], 'state', 'moved', 'moved_to', ARGV[2], 'ended', now)
redis.call('HDEL', KEYS[2], 'subjects')
job.moved_to = ARGV[2]
keep_life(from, job, 'moved', NO_USE)
forget_lives(from, math.floor(now / 1000))
if KEYS[7] then
  redis.call('SET', KEYS[7], ARGV[2], 'XX', 'KEEPTTL')
end
return {'moved', ARGV[2], waiting}

-- Put the jobs of one request on their model's queue, all or none, each once: asking again for the same job answers what
-- became of it, and it needs no room.
-- KEYS: queue, ready workers, hosts that would load the model, then the jobs
-- ARGV: group, reply stream, first reply id, max waiting, deadline ms, keep ms, must be served (1 or 0), max bytes of the
--   queue (0: any), limits (JSON; empty: none), then for each job: payload, digest, lane, weight, cost, job id, API key
--   id, wanted within ms (0: the deadline), tokens that it may take, how many media it has, a digest and the bytes of each
-- Answers {'put', an answer for each job}, which is {'queued', waiting, counts of each subject} or {'known', digest,
--   reply, first, state}; or for all {'limited', subject, limit's name, limit, used, s to wait}, {'full', waiting},
--   {'large', bytes} or {'unserved'}.
local OF_JOB = 10
local now = time_ms()
local answers, new = {}, {}
local tokens, size = 0, 0

-- Read the jobs; the payload of each is at `at`.
local at = 10
for number = 4, #KEYS do
  local known = redis.call('HMGET', KEYS[number], 'digest', 'reply', 'first', 'state', 'cancelled')
  local job = {number = number - 3, key = KEYS[number], at = at, bytes = #ARGV[at], of_media = 0}
  job.first_medium, job.last_medium = at + OF_JOB, at + OF_JOB - 1 + 2 * ARGV[at + 9]
  for i = job.first_medium, job.last_medium, 2 do
    job.of_media = job.of_media + #ARGV[i + 1]
  end
  at = job.last_medium + 1
  if known[4] then
    local state = known[5] and known[4] == 'running' and 'cancelled' or known[4]
    answers[job.number] = {'known', known[1], known[2], known[3], state}
  else
    job.bytes = job.bytes + job.of_media
    tokens, size = tokens + ARGV[job.at + 8], size + job.bytes
    table.insert(new, job)
  end
end
if #new == 0 then
  return {'put', answers}
end
if ARGV[7] == '1' and redis.call('ZCOUNT', KEYS[2], now, '+inf') == 0
    and redis.call('ZCOUNT', KEYS[3], now, '+inf') == 0 then
  return {'unserved'}
end
local limits, kept_ms = {}, ARGV[5] + ARGV[6]
if ARGV[9] ~= '' then
  limits = cjson.decode(ARGV[9])
end
local counts, refused = may_come(limits, #new, tokens, size, now)
if not counts then
  return {'limited', unpack(refused)}
end
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1])
if pending.err then
  redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
  pending = {0}
end
local waiting = redis.call('XLEN', KEYS[1]) - pending[1]
if waiting + #new > tonumber(ARGV[4]) then
  return {'full', waiting}
end
if tonumber(ARGV[8]) > 0 then
  -- Exact, and cheap: an entry that is large has a node of its own, whose size is known.
  local bytes = redis.call('MEMORY', 'USAGE', KEYS[1], 'SAMPLES', '0') or 0
  local media = media_bytes(new[1].key)
  if media > 0 and bytes + media + size > tonumber(ARGV[8]) then
    media = recount_media(new[1].key)
  end
  if bytes + media + size > tonumber(ARGV[8]) then
    return {'large', bytes + media}
  end
end

local prefix = prefix_of(KEYS[1])
local function put(job)
  local payload, digest, lane, weight, cost, id, key_id, within, takes = unpack(ARGV, job.at, job.at + OF_JOB - 2)
  local entry = redis.call('XADD', KEYS[1], '*', 'job', payload)
  local place = table.concat({lane, weight, cost, id, key_id}, ' ')
  local wanted = now + tonumber(within == '0' and ARGV[5] or within)
  redis.call('HSET', job.key, 'entry', entry, 'state', 'queued', 'attempt', 0, 'digest', digest, 'reply', ARGV[2],
    'first', ARGV[3], 'deadline', now + tonumber(ARGV[5]), 'place', place, 'wanted', wanted)
  local is_new = join(prefix, entry, place, wanted, now)
  if #limits > 0 then
    let_in(limits, job.key, id, tonumber(takes), job.bytes, kept_ms, now)
  end
  if job.of_media > 0 then
    keep_media(job.key, ARGV, job.first_medium, job.last_medium, job.of_media, kept_ms)
  end
  redis.call('PEXPIRE', job.key, kept_ms)
  return is_new
end

local begins_to_wait = false
for i, job in ipairs(new) do
  begins_to_wait = put(job) or begins_to_wait
  answers[job.number] = {'queued', waiting + i - 1, counts}
end
tell_of_key(prefix, begins_to_wait, ARGV[6])
return {'put', answers}

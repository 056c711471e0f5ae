-- Put requests on their model's queue, one after the other. The jobs of a request are put all or none, each once: asking
-- again for the same job answers what became of it, and it needs no room.
-- KEYS: queue, ready workers, hosts that would load the model, then the jobs of all requests
-- ARGV: group, then for each request: how many jobs it has, reply stream, first reply id, max waiting, deadline ms, keep ms,
--   whether leases that have lapsed count (0 or 1), max bytes of the queue (0: any), limits (JSON; empty:
--   none); then for each of its jobs: payload, digest, lane, weight, cost, job id, API key id, wanted within ms (0: the
--   deadline), tokens that it may take, how many media it has, a digest and the bytes of each
-- Answers for each request {'put', an answer for each job}, which is {'queued', waiting, counts of each subject} or {'known',
--   digest, reply, first, state}; or for all of its jobs {'limited', subject, limit's name, limit, used, s to wait}, {'full',
--   waiting}, {'large', bytes}, {'unserved'} or {'failed', why}.
local OF_REQUEST, OF_JOB = 9, 10
local now, prefix = time_ms(), prefix_of(KEYS[1])
local at, number, put_jobs, begins_to_wait, longest_ms = 2, 4, 0, false, 0

-- The state of the queue, which is looked at once.
local is_served = redis.call('ZCOUNT', KEYS[2], now, '+inf') > 0 or redis.call('ZCOUNT', KEYS[3], now, '+inf') > 0
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1])
local has_group, waiting, size, media = not pending.err, nil, nil, nil

local function look()
  if not has_group then
    redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
    has_group, pending = true, {0}
  end
  waiting = waiting or redis.call('XLEN', KEYS[1]) - pending[1]
end

local decoded = {[''] = {}}

local function limits_of(text)
  decoded[text] = decoded[text] or cjson.decode(text)
  return decoded[text]
end

local function read_job_words()
  local job, count = {key = KEYS[number], of_media = 0}, nil
  job.payload, job.digest, job.lane, job.weight, job.cost, job.id, job.key_id, job.within, job.tokens, count =
    unpack(ARGV, at, at + OF_JOB - 1)
  job.first_medium, job.last_medium = at + OF_JOB, at + OF_JOB - 1 + 2 * count
  for i = job.first_medium, job.last_medium, 2 do
    job.of_media = job.of_media + #ARGV[i + 1]
  end
  job.bytes = #job.payload + job.of_media
  at, number = job.last_medium + 1, number + 1
  return job
end

local function read_request()
  local count, reply, first, max_waiting, deadline, keep, was_served, max_bytes, limits =
    unpack(ARGV, at, at + OF_REQUEST - 1)
  at = at + OF_REQUEST
  local jobs = {}
  for i = 1, count do
    jobs[i] = read_job_words()
  end
  return {
    jobs = jobs, reply = reply, first = first, max_waiting = tonumber(max_waiting), deadline_ms = tonumber(deadline),
    kept_ms = deadline + keep, was_served = was_served == '1', max_bytes = tonumber(max_bytes), limits = limits,
  }
end

-- What became of a job that is there already.
local function known(job)
  local found = redis.call('HMGET', job.key, 'digest', 'reply', 'first', 'state', 'cancelled')
  local state = found[5] and found[4] == 'running' and 'cancelled' or found[4]
  return state and {'known', found[1], found[2], found[3], state}
end

-- Whether the queue has no room for so many bytes. Answers how many it has, if so.
local function too_large(bytes, max_bytes, job_key)
  if max_bytes == 0 then
    return nil
  end
  -- Exact, and cheap: an entry that is large has a node of its own, whose size is known.
  size = size or (redis.call('MEMORY', 'USAGE', KEYS[1], 'SAMPLES', '0') or 0)
  media = media or media_bytes(job_key)
  if media > 0 and size + media + bytes > max_bytes then
    media = recount_media(job_key)
  end
  return size + media + bytes > max_bytes and size + media
end

local function put(job, request)
  local entry = redis.call('XADD', KEYS[1], '*', 'job', job.payload)
  local place = table.concat({job.lane, job.weight, job.cost, job.id, job.key_id}, ' ')
  local wanted = now + (job.within == '0' and request.deadline_ms or job.within)
  local limited = #request.limits > 0 and let_in(request.limits, job.id, tonumber(job.tokens), job.bytes, request.kept_ms, now)
  redis.call('HSET', job.key, 'entry', entry, 'state', 'queued', 'attempt', 0, 'digest', job.digest, 'reply', request.reply,
    'first', request.first, 'deadline', now + request.deadline_ms, 'place', place, 'wanted', wanted, unpack(limited or {}))
  redis.call('PEXPIRE', job.key, request.kept_ms)
  begins_to_wait = join(prefix, entry, place, wanted, now) or begins_to_wait
  if job.of_media > 0 then
    keep_media(job.key, ARGV, job.first_medium, job.last_medium, job.of_media, request.kept_ms)
    media = nil
  end
  put_jobs, longest_ms, size = put_jobs + 1, math.max(longest_ms, request.kept_ms), size and size + #job.payload
end

-- Whether there is somebody for a request's jobs. Leases that end at once, as the clock was set forward, are renewed soon.
local function served_for(request)
  return is_served or (request.was_served and redis.call('EXISTS', KEYS[2], KEYS[3]) > 0)
end

local function put_request(request)
  local answers, new, tokens, bytes = {}, {}, 0, 0
  request.limits = limits_of(request.limits)
  for i, job in ipairs(request.jobs) do
    answers[i] = known(job)
    if not answers[i] then
      job.number, tokens, bytes = i, tokens + job.tokens, bytes + job.bytes
      table.insert(new, job)
    end
  end
  if #new == 0 then
    return {'put', answers}
  end
  if not served_for(request) then
    -- Leases also end where nobody can renew them: a server that takes no writes (MISCONF, NOREPLICAS) says so here.
    redis.call('DEL', KEYS[1] .. ':unserved')
    return {'unserved'}
  end
  local counts, refused = may_come(request.limits, #new, tokens, bytes, now)
  if not counts then
    return {'limited', unpack(refused)}
  end
  look()
  if waiting + #new > request.max_waiting then
    return {'full', waiting}
  end
  local had = too_large(bytes, request.max_bytes, new[1].key)
  if had then
    return {'large', had}
  end
  for _, job in ipairs(new) do
    put(job, request)
    answers[job.number] = {'queued', waiting, counts}
    waiting = waiting + 1
  end
  return {'put', answers}
end

local answers = {}
while at <= #ARGV do
  local request = read_request()
  table.insert(answers, apart(put_request, request))
end
write_accounts()
if put_jobs > 0 then
  wake(prefix, put_jobs)
  tell_of_key(prefix, begins_to_wait, longest_ms)
end
return answers

-- End jobs, as far as this worker's attempts still own them. Safe to repeat: the first end stays.
-- KEYS: queue, then the jobs
-- ARGV: group, worker, keep ms, days to keep the count of use, days to keep lives, then for each job: entry id, attempt,
--   state, what it used (`usage.lua`)
-- Answers for each job 1 if it is now (or was already) ended by this attempt, 0 if another attempt owns it, or {'failed', why}.
local clock, prefix = redis.call('TIME'), prefix_of(KEYS[1])
local now_s, now = clock[1], clock[1] * 1000 + math.floor(clock[2] / 1000)
local answers, entries, ending, seen, costs = {}, {}, {}, {}, {}

local function look_at(number)
  local entry, attempt, state, used = unpack(ARGV, 4 * number - 2, 4 * number + 1)
  local job = read_job(KEYS[number])
  if job.worker ~= ARGV[2] or job.attempt ~= attempt then
    return 0
  end
  table.insert(entries, entry)
  if job.state == 'running' and not seen[job.key] then
    seen[job.key] = true
    table.insert(ending, {job = job, state = state, use = used})
  end
  return 1
end

for number = 2, #KEYS do
  answers[number - 1] = apart(look_at, number)
end
if #entries > 0 then
  redis.call('XACK', KEYS[1], ARGV[1], unpack(entries))
  redis.call('XDEL', KEYS[1], unpack(entries))
end

local function count(job, state, used)
  local use = use_of(used, job.used, state == 'done')
  local tokens = tokens_of(use)
  settle_reserved(job, tokens, now_s * 1000)
  if job.place then
    local place = parse(job.place)
    add_cost(costs, place, tokens - place.cost * (1 + (job.yielded or 0)))
  end
  count_use(prefix, job, state, use, now_s)
end

local ended = {}
for _, each in ipairs(ending) do
  redis.call('HSET', each.job.key, 'state', each.state, 'ended', now)
  redis.call('PEXPIRE', each.job.key, ARGV[3])
  table.insert(ended, each.job.key)
  apart_and_logged('the count of ' .. each.job.key, count, each.job, each.state, each.use)
end
apart_and_logged('the media of ' .. KEYS[1], drop_media, ended)
settle(prefix, costs)
write_accounts()
write_use(prefix, now_s, ARGV[4], ARGV[5])
return answers

-- End jobs, as far as this worker's attempts still own them. Safe to repeat: the first end stays.
-- KEYS: queue, then the jobs
-- ARGV: group, worker, keep ms, days to keep the count of use, days to keep lives, then for each job: entry id, attempt,
--   state, what it used (`usage.lua`)
-- Answers for each job 1 if it is now (or was already) ended by this attempt, 0 if another attempt owns it.
local clock, prefix = redis.call('TIME'), prefix_of(KEYS[1])
local now_s, now = clock[1], clock[1] * 1000 + math.floor(clock[2] / 1000)
local answers, entries, ending, seen, costs = {}, {}, {}, {}, {}

for number = 2, #KEYS do
  local entry, attempt, state, used = unpack(ARGV, 4 * number - 2, 4 * number + 1)
  local job = read_job(KEYS[number])
  local is_own = job.worker == ARGV[2] and job.attempt == attempt
  answers[number - 1] = is_own and 1 or 0
  if is_own then
    table.insert(entries, entry)
    if job.state == 'running' and not seen[job.key] then
      seen[job.key] = true
      table.insert(ending, {job = job, state = state, use = used})
    end
  end
end
if #entries > 0 then
  redis.call('XACK', KEYS[1], ARGV[1], unpack(entries))
  redis.call('XDEL', KEYS[1], unpack(entries))
end

local ended = {}
for _, each in ipairs(ending) do
  local job, state = each.job, each.state
  redis.call('HSET', job.key, 'state', state, 'ended', now)
  redis.call('PEXPIRE', job.key, ARGV[3])
  local tokens = count_use(prefix, job, state, use_of(each.use, job.used, state == 'done'), now_s)
  let_out(job, tokens, now_s * 1000)
  if job.place then
    local place = parse(job.place)
    add_cost(costs, place, tokens - place.cost * (1 + (job.yielded or 0)))
  end
  table.insert(ended, job.key)
end
drop_media(ended)
settle(prefix, costs)
write_accounts()
write_use(prefix, now_s, ARGV[4], ARGV[5])
return answers

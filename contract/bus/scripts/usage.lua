-- What API keys have used of one model. Part of every script that ends a job, so that each counts once.
--   usage:DAY        hash: key id -> REQUESTS ERRORS CANCELLED and a use; a day of UTC is YYYYMMDD
--   progress:WORKER  hash: job -> its use so far, as the worker says every second
--   job:ID           `used`: the use of attempts whose worker was lost, or gave it back
--   ew:usage:last:MONTH   hash, over all models: key id -> when a job of it ended last; Unix seconds, YYYYMM
-- A use is 'PROMPT CACHED COMPLETION REASONING ENGINE_MS': four counts of tokens, and the engine's time. Tokens are those
-- of the answer, so an attempt that goes on counts those before it, too; time is that of each attempt.
local USES, ENGINE_MS, KEPT_DAYS = 5, 5, 400
local LAST_KEPT_S = 400 * 86400
local NO_USE = '0 0 0 0 0'

local function numbers_of(text)
  local found = {}
  for number in string.gmatch(text, '%S+') do
    table.insert(found, tonumber(number))
  end
  return found
end

local function text_of(numbers)
  for i, number in ipairs(numbers) do
    numbers[i] = string.format('%.0f', number)
  end
  return table.concat(numbers, ' ')
end

-- The use of a job whose last attempt used `last`. What its client was told is exact; else an earlier attempt may have
-- come further.
local function use_of(last, before, is_told)
  local use = numbers_of(last)
  if not before then
    return use
  end
  local earlier = numbers_of(before)
  for i = 1, USES do
    if i == ENGINE_MS then
      use[i] = use[i] + earlier[i]
    elseif not is_told then
      use[i] = math.max(use[i], earlier[i])
    end
  end
  return use
end

-- Keep what a worker used for a job that it does not end: `last`, or nil for what it said in its progress.
local function keep_use(prefix, job, worker, last)
  local progress = prefix .. 'progress:' .. worker
  last = last or redis.call('HGET', progress, job.id)
  if last then
    redis.call('HDEL', progress, job.id)
    job.used = text_of(use_of(last, job.used, false))
    redis.call('HSET', job.key, 'used', job.used)
  end
end

local function tokens_of(use)
  return use[1] + use[3]
end

-- By key, the counts of today with the jobs that this script ends; they are written at its end.
local counted, usage_key = {}, nil

-- Count a job that ends in a state.
local function count_use(prefix, job, state, use, now_s)
  keep_life(prefix, job, state, table.concat(use, ' '))
  local key = key_of(job)
  if not usage_key then
    usage_key = string.format('%susage:%d%02d', prefix, month_of(math.floor(now_s / 86400)))
  end
  counted[key] = counted[key] or numbers_of(redis.call('HGET', usage_key, key) or ('0 0 0 ' .. NO_USE))
  local counts = counted[key]
  counts[1] = counts[1] + 1
  if state == 'cancelled' then
    counts[3] = counts[3] + 1
  elseif state ~= 'done' then
    counts[2] = counts[2] + 1
  end
  for i = 1, USES do
    counts[3 + i] = counts[3 + i] + use[i]
  end
end

local function write_counts(key, counts, last, now_s)
  redis.call('HSET', usage_key, key, text_of(counts))
  if key ~= '' and redis.call('HSET', last, key, now_s) == 1 then
    redis.call('EXPIRE', last, LAST_KEPT_S)
  end
end

-- Write what this script has counted, at its end: usage is kept for some days, and lives for some (nil: not known).
local function write_use(prefix, now_s, days, life_days)
  local last = 'ew:usage:last:' .. month_of(math.floor(now_s / 86400))
  for key, counts in pairs(counted) do
    apart_and_logged('use of key ' .. key, write_counts, key, counts, last, now_s)
  end
  if not usage_key then
    return
  elseif days then
    redis.call('EXPIRE', usage_key, days * 86400)
  else
    redis.call('EXPIRE', usage_key, KEPT_DAYS * 86400, 'NX')
  end
  apart_and_logged('lives of ' .. prefix, forget_lives, prefix, now_s, life_days)
end

-- Count a job that was cancelled, and let it out. `worker` is the one that was lost with it, or had none.
local function cancel_use(prefix, job, worker, now_s)
  if worker and worker ~= '' then
    keep_use(prefix, job, worker)
  end
  count_use(prefix, job, 'cancelled', use_of(NO_USE, job.used, false), now_s)
  let_out(job, not job.begun and 0 or nil, now_s * 1000)
  drop_media({job.key})
end

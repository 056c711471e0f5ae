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
  local use, earlier = numbers_of(last), numbers_of(before or NO_USE)
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
local function keep_use(prefix, job_key, worker, last)
  local progress, job = prefix .. 'progress:' .. worker, string.match(job_key, ':job:(.*)$')
  last = last or redis.call('HGET', progress, job)
  if last then
    redis.call('HDEL', progress, job)
    redis.call('HSET', job_key, 'used', text_of(use_of(last, redis.call('HGET', job_key, 'used'), false)))
  end
end

-- Count a job that ends in a state. Answers the tokens that it took.
local function count_use(prefix, job_key, state, use, now_s, days)
  keep_life(prefix, job_key, state, table.concat(use, ' '))
  local key = string.match(redis.call('HGET', job_key, 'place') or '', '(%S*)$')
  local month, day = month_of(math.floor(now_s / 86400))
  local usage = string.format('%susage:%d%02d', prefix, month, day)
  local counts = numbers_of(redis.call('HGET', usage, key) or ('0 0 0 ' .. NO_USE))
  counts[1] = counts[1] + 1
  if state == 'cancelled' then
    counts[3] = counts[3] + 1
  elseif state ~= 'done' then
    counts[2] = counts[2] + 1
  end
  for i = 1, USES do
    counts[3 + i] = counts[3 + i] + use[i]
  end
  redis.call('HSET', usage, key, text_of(counts))
  local last = 'ew:usage:last:' .. month
  if key ~= '' and redis.call('HSET', last, key, now_s) == 1 then
    redis.call('EXPIRE', last, LAST_KEPT_S)
  end
  if days then
    redis.call('EXPIRE', usage, days * 86400)
  else
    redis.call('EXPIRE', usage, KEPT_DAYS * 86400, 'NX')
  end
  return use[1] + use[3]
end

-- Count a job that was cancelled, and let it out. `worker` is the one that was lost with it, or had none.
local function cancel_use(prefix, job_key, worker, begun, now_s)
  if worker and worker ~= '' then
    keep_use(prefix, job_key, worker)
  end
  local use = use_of(NO_USE, redis.call('HGET', job_key, 'used'), false)
  count_use(prefix, job_key, 'cancelled', use, now_s)
  let_out(job_key, not begun and 0 or nil, now_s * 1000)
end

-- The limits of API keys, and of groups of them. Part of every script that lets a job in, or ends one. A subject is
-- `key:ID` or `group:NAME`; a job counts for each that has limits. Tokens are reserved when a job is let in, and settled
-- when it ends; both once. The keys cross models, so all of Redis is one server (and its replicas).
--   ew:limit:SUBJECT:requests, :tokens   hash: second -> count; `from`: the first of them; `total`: all
--   ew:limit:SUBJECT:open                sorted set: job -> when it has surely ended (ms)
--   ew:limit:SUBJECT:waiting             hash: job -> bytes, of jobs that wait for a worker; `total`: all bytes
--   ew:limit:SUBJECT:spent               hash: dDAY and mMONTH -> tokens; days from 1970 on, months as YYYYMM, in UTC
-- One second more than a minute, as the first of them is not over: so no 60 seconds have more.
local SPAN, DAY = 61, 86400

local function limit_key(subject, what)
  return 'ew:limit:' .. subject .. ':' .. what
end

-- The month of a day: Howard Hinnant's `civil_from_days`. Answers YYYYMM, and the day of the month from 1.
local function month_of(days)
  local z = days + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return year * 100 + month, doy - math.floor((153 * mp + 2) / 5) + 1
end

local function days_left_in_month(days)
  local month = month_of(days)
  local left = 1
  while month_of(days + left) == month do
    left = left + 1
  end
  return left
end

-- The counts of the last minute; older ones are forgotten.
local function counted(key, now_s)
  local state = redis.call('HMGET', key, 'from', 'total')
  local from, total = tonumber(state[1]), tonumber(state[2] or 0)
  if not from or now_s - from >= 3 * SPAN then
    redis.call('DEL', key)
    return 0
  end
  if from > now_s then
    -- The clock was set back: all of it came just now.
    redis.call('DEL', key)
    redis.call('HSET', key, 'from', now_s, 'total', total, now_s, total)
    redis.call('EXPIRE', key, 3 * SPAN)
    return total
  end
  local last = now_s - SPAN
  if from > last then
    return total
  end
  for second = from, last do
    local count = redis.call('HGET', key, second)
    if count then
      total = total - count
      redis.call('HDEL', key, second)
    end
  end
  redis.call('HSET', key, 'from', last + 1, 'total', total)
  return total
end

-- Count so many more in a second, or fewer.
local function count_in(key, second, amount)
  redis.call('HSETNX', key, 'from', second)
  redis.call('HINCRBY', key, second, amount)
  redis.call('HINCRBY', key, 'total', amount)
  redis.call('EXPIRE', key, 3 * SPAN)
end

-- In how many seconds there is room for an amount, if nothing else comes.
local function room_in(key, now_s, total, amount, limit)
  local from = tonumber(redis.call('HGET', key, 'from') or now_s)
  for second = from, now_s do
    total = total - (redis.call('HGET', key, second) or 0)
    if total + amount <= limit then
      return second + SPAN - now_s
    end
  end
  return SPAN
end

local function wait_no_more(subject, job)
  local key = limit_key(subject, 'waiting')
  local bytes = redis.call('HGET', key, job)
  if bytes then
    redis.call('HDEL', key, job)
    redis.call('HINCRBY', key, 'total', -bytes)
    if redis.call('HLEN', key) == 1 then
      redis.call('DEL', key)
    end
  end
end

-- Whether so many jobs may come in together, for all subjects, that take `tokens` and `bytes` in all. Answers what it
-- found of each subject, them included (requests, tokens, of the day, of the month), or nil and {subject, limit's name, limit, used, seconds until there is room; -1: never}.
-- `limits` has for each subject: name, requests, tokens, open, waiting, bytes, of a day, of a month; 0 is none.
local function may_come(limits, jobs, tokens, bytes, now)
  local now_s = math.floor(now / 1000)
  local days = math.floor(now_s / DAY)
  local found = {}
  for _, of in ipairs(limits) do
    local name = of[1]
    local spent = redis.call('HMGET', limit_key(name, 'spent'), 'd' .. days, 'm' .. month_of(days))
    local open_key, waiting_key = limit_key(name, 'open'), limit_key(name, 'waiting')
    local requests_key, tokens_key = limit_key(name, 'requests'), limit_key(name, 'tokens')
    local used = {counted(requests_key, now_s), counted(tokens_key, now_s), tonumber(spent[1] or 0), tonumber(spent[2] or 0)}
    redis.call('ZREMRANGEBYSCORE', open_key, '-inf', now)
    local wait = math.max(0, redis.call('HLEN', waiting_key) - 1)
    local waiting = tonumber(redis.call('HGET', waiting_key, 'total') or 0)
    local checks = {
      {'requests_per_minute', of[2], used[1], jobs, function() return room_in(requests_key, now_s, used[1], jobs, of[2]) end},
      {'tokens_per_minute', of[3], used[2], tokens, function() return room_in(tokens_key, now_s, used[2], tokens, of[3]) end},
      {'open_requests', of[4], redis.call('ZCARD', open_key), jobs, function() return 1 end},
      {'waiting_requests', of[5], wait, jobs, function() return 1 end},
      {'waiting_bytes', of[6], waiting, bytes, function() return 1 end},
      {'tokens_per_day', of[7], used[3], tokens, function() return DAY - now_s % DAY end},
      {'tokens_per_month', of[8], used[4], tokens, function() return days_left_in_month(days) * DAY - now_s % DAY end},
    }
    for _, check in ipairs(checks) do
      local limit, had, more = tonumber(check[2]), check[3], check[4]
      if limit > 0 and had + more > limit then
        return nil, {name, check[1], limit, had, more > limit and -1 or check[5]()}
      end
    end
    table.insert(found, {used[1] + jobs, used[2] + tokens, used[3] + tokens, used[4] + tokens})
  end
  return found
end

-- Keep a key at least for so long: a job that may stay for hours is not forgotten with one that may stay for minutes.
local function keep_for(key, ms)
  if redis.call('PTTL', key) < ms then
    redis.call('PEXPIRE', key, ms)
  end
end

-- Let a job in that may come.
local function let_in(limits, job_key, job, tokens, bytes, kept_ms, now)
  local now_s = math.floor(now / 1000)
  local days = math.floor(now_s / DAY)
  local names = {}
  for _, of in ipairs(limits) do
    local name = of[1]
    count_in(limit_key(name, 'requests'), now_s, 1)
    count_in(limit_key(name, 'tokens'), now_s, tokens)
    redis.call('ZADD', limit_key(name, 'open'), now + kept_ms, job)
    keep_for(limit_key(name, 'open'), kept_ms)
    redis.call('HSET', limit_key(name, 'waiting'), job, bytes)
    redis.call('HINCRBY', limit_key(name, 'waiting'), 'total', bytes)
    keep_for(limit_key(name, 'waiting'), kept_ms)
    redis.call('HINCRBY', limit_key(name, 'spent'), 'd' .. days, tokens)
    redis.call('HINCRBY', limit_key(name, 'spent'), 'm' .. month_of(days), tokens)
    redis.call('EXPIRE', limit_key(name, 'spent'), 63 * DAY)
    table.insert(names, name)
  end
  redis.call('HSET', job_key, 'subjects', table.concat(names, ' '), 'reserved', tokens, 'let_in', now_s)
end

-- A worker has begun a job.
local function waits_no_more(job_key)
  local job = job_of(job_key)
  for name in string.gmatch(redis.call('HGET', job_key, 'subjects') or '', '%S+') do
    wait_no_more(name, job)
  end
end

-- A job has ended, after so many tokens (nil: it is not known, so as many as were reserved). Its media go with it. Safe
-- to repeat.
local function let_out(job_key, tokens, now)
  local job = job_of(job_key)
  drop_media(job_key)
  local state = redis.call('HMGET', job_key, 'subjects', 'reserved', 'let_in')
  if not state[1] then
    return
  end
  redis.call('HDEL', job_key, 'subjects')
  local more = (tokens or tonumber(state[2])) - state[2]
  local now_s = math.floor(now / 1000)
  local days, second = math.floor(state[3] / DAY), math.min(state[3], now_s)
  for name in string.gmatch(state[1], '%S+') do
    redis.call('ZREM', limit_key(name, 'open'), job)
    wait_no_more(name, job)
    if more ~= 0 then
      local key = limit_key(name, 'tokens')
      counted(key, now_s)
      if second > now_s - SPAN then
        count_in(key, second, more)
      elseif more > 0 then
        count_in(key, now_s, more)
      end
      redis.call('HINCRBY', limit_key(name, 'spent'), 'd' .. days, more)
      redis.call('HINCRBY', limit_key(name, 'spent'), 'm' .. month_of(days), more)
    end
  end
end

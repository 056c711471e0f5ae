-- The limits of API keys, and of groups of them. Part of every script that lets a job in, or ends one. A subject is
-- `key:ID` or `group:NAME`; a job counts for each that has limits. Tokens are reserved when a job is let in, and settled
-- when it ends; both once. The keys cross models, so all of Redis is one server (and its replicas). What a script changes
-- of a subject is gathered in an account, and written at the script's end (`write_accounts`), once for all of its jobs.
--   ew:limit:SUBJECT:requests, :tokens   hash: second -> count; `from`: the first of them; `total`: all
--   ew:limit:SUBJECT:open                sorted set: job -> when it has surely ended (ms)
--   ew:limit:SUBJECT:waiting             hash: job -> bytes, of jobs that wait for a worker; `total`: all bytes
--   ew:limit:SUBJECT:spent               hash: dDAY and mMONTH -> tokens; days from 1970 on, months as YYYYMM, in UTC
-- One second more than a minute, as the first of them is not over: so no 60 seconds have more.
local SPAN, DAY = 61, 86400
local LIMITS = {'requests_per_minute', 'tokens_per_minute', 'open_requests', 'waiting_requests', 'waiting_bytes',
  'tokens_per_day', 'tokens_per_month'}

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

-- The counts of the last minute. Older ones are `old`: seconds, or all there is; they are forgotten when it is written. What
-- a second had is `known`, if it was read.
local function read_window(key, now_s)
  local state = redis.call('HMGET', key, 'from', 'total', now_s)
  local window = {key = key, from = tonumber(state[1] or now_s), total = tonumber(state[2] or 0), added = {}, old = {},
    known = {[now_s] = state[3]}}
  if now_s - window.from >= 3 * SPAN then
    window.old, window.from, window.total, window.known = 'all', now_s, 0, {[now_s] = false}
  elseif window.from > now_s then
    -- The clock was set back: all of it came just now.
    window.old, window.from, window.added[now_s], window.known = 'all', now_s, window.total, {[now_s] = false}
  else
    for second = window.from, now_s - SPAN do
      table.insert(window.old, second)
    end
    for _, count in ipairs(window.old[1] and redis.call('HMGET', key, unpack(window.old)) or {}) do
      window.total = window.total - (count or 0)
    end
    window.from = math.max(window.from, now_s - SPAN + 1)
  end
  return window
end

-- Count so many more in a second, or fewer.
local function count_in(window, second, amount)
  window.from, window.total = math.min(window.from, second), window.total + amount
  window.added[second] = (window.added[second] or 0) + amount
end

local function write_window(window)
  if next(window.added) == nil then
    return
  elseif window.old == 'all' then
    redis.call('DEL', window.key)
  elseif window.old[1] then
    redis.call('HDEL', window.key, unpack(window.old))
  end
  local fields, is_new = {'from', window.from, 'total', window.total}, false
  for second, amount in pairs(window.added) do
    local before = window.known[second]
    if before == nil then
      before = redis.call('HGET', window.key, second)
    end
    table.insert(fields, second)
    table.insert(fields, amount + (before or 0))
    is_new = is_new or not before
  end
  redis.call('HSET', window.key, unpack(fields))
  if is_new then
    redis.call('EXPIRE', window.key, 3 * SPAN)
  end
end

-- In how many seconds there is room for an amount, if nothing else comes.
local function room_in(window, now_s, amount, limit)
  local total = window.total
  for second = window.from, now_s do
    total = total - (redis.call('HGET', window.key, second) or 0) - (window.added[second] or 0)
    if total + amount <= limit then
      return second + SPAN - now_s
    end
  end
  return SPAN
end

-- What a script changes of each subject: windows by name, tokens by day, jobs with their bytes that it
-- lets in, and jobs that begin, or end.
local accounts = {}

local function account_of(subject)
  accounts[subject] = accounts[subject] or {windows = {}, spent = {}, let_in = {}, begun = {}, ended = {}}
  return accounts[subject]
end

local function window_of(subject, what, now_s)
  local windows = account_of(subject).windows
  windows[what] = windows[what] or read_window(limit_key(subject, what), now_s)
  return windows[what]
end

local function spend(subject, days, tokens)
  local spent = account_of(subject).spent
  spent[days] = (spent[days] or 0) + tokens
end

-- What a subject has used, with what this script has let in.
local function used_by(subject, now)
  local account = account_of(subject)
  if not account.used then
    local days = math.floor(now / 1000 / DAY)
    local spent = redis.call('HMGET', limit_key(subject, 'spent'), 'd' .. days, 'm' .. month_of(days))
    account.used = {
      day = tonumber(spent[1] or 0),
      month = tonumber(spent[2] or 0),
      open = redis.call('ZCOUNT', limit_key(subject, 'open'), '(' .. now, '+inf'),
      waiting = math.max(0, redis.call('HLEN', limit_key(subject, 'waiting')) - 1),
      bytes = tonumber(redis.call('HGET', limit_key(subject, 'waiting'), 'total') or 0),
    }
  end
  return account.used
end

-- In how many seconds a limit has room for so much more, if nothing else comes.
local function wait_of(name, windows, more, limit, now_s)
  local days = math.floor(now_s / DAY)
  if windows[name] then
    return room_in(windows[name], now_s, more, limit)
  elseif name == 'tokens_per_day' then
    return DAY - now_s % DAY
  elseif name == 'tokens_per_month' then
    return days_left_in_month(days) * DAY - now_s % DAY
  end
  return 1
end

-- Whether so many jobs may come in together, for all subjects, that take `tokens` and `bytes` in all. Answers what it
-- found of each subject, them included (requests, tokens, of the day, of the month), or nil and {subject, limit's name,
-- limit, used, seconds until there is room; -1: never}. `limits` has for each subject: name, and each of LIMITS; 0 is none.
local function may_come(limits, jobs, tokens, bytes, now)
  local now_s, found = math.floor(now / 1000), {}
  for _, of in ipairs(limits) do
    local subject = of[1]
    local requests, taken = window_of(subject, 'requests', now_s), window_of(subject, 'tokens', now_s)
    local used = used_by(subject, now)
    local had = {requests.total, taken.total, used.open, used.waiting, used.bytes, used.day, used.month}
    local more = {jobs, tokens, jobs, jobs, bytes, tokens, tokens}
    for i, name in ipairs(LIMITS) do
      local limit = of[i + 1]
      if limit > 0 and had[i] + more[i] > limit then
        local windows = {requests_per_minute = requests, tokens_per_minute = taken}
        local wait = more[i] > limit and -1 or wait_of(name, windows, more[i], limit, now_s)
        return nil, {subject, name, limit, had[i], wait}
      end
    end
    table.insert(found, {had[1] + jobs, had[2] + tokens, had[6] + tokens, had[7] + tokens})
  end
  return found
end

-- Let a job in that may come. Answers what is to be kept in its record.
local function let_in(limits, job, tokens, bytes, kept_ms, now)
  local now_s = math.floor(now / 1000)
  local names = {}
  for _, of in ipairs(limits) do
    local name = of[1]
    local account, used = account_of(name), used_by(name, now)
    count_in(window_of(name, 'requests', now_s), now_s, 1)
    count_in(window_of(name, 'tokens', now_s), now_s, tokens)
    spend(name, math.floor(now_s / DAY), tokens)
    table.insert(account.let_in, {job = job, bytes = bytes, until_ms = now + kept_ms})
    account.now, account.kept_ms = now, math.max(account.kept_ms or 0, kept_ms)
    used.open, used.waiting, used.bytes = used.open + 1, used.waiting + 1, used.bytes + bytes
    used.day, used.month = used.day + tokens, used.month + tokens
    table.insert(names, name)
  end
  return {'subjects', table.concat(names, ' '), 'reserved', tokens, 'let_in', now_s}
end

-- A worker has begun a job.
local function waits_no_more(job)
  for name in string.gmatch(job.subjects or '', '%S+') do
    table.insert(account_of(name).begun, job.id)
  end
end

-- Settle what an ended job has reserved; it took so many tokens (nil: it is not known, so as many as were reserved). Not safe
-- to repeat: the caller knows that the job ends now.
local function settle_reserved(job, tokens, now)
  if not job.subjects then
    return
  end
  local more, now_s = (tokens or tonumber(job.reserved)) - job.reserved, math.floor(now / 1000)
  local days, second = math.floor(job.let_in / DAY), math.min(job.let_in, now_s)
  for name in string.gmatch(job.subjects, '%S+') do
    local account = account_of(name)
    table.insert(account.ended, job.id)
    if not job.begun then
      table.insert(account.begun, job.id)
    end
    if more ~= 0 then
      local window = window_of(name, 'tokens', now_s)
      if second > now_s - SPAN then
        count_in(window, second, more)
      elseif more > 0 then
        count_in(window, now_s, more)
      end
      spend(name, days, more)
    end
  end
end

-- The same, safe to repeat.
local function let_out(job, tokens, now)
  if job.subjects then
    redis.call('HDEL', job.key, 'subjects')
    settle_reserved(job, tokens, now)
  end
end

-- Keep a key at least for so long: a job that may stay for hours is not forgotten with one that may stay for minutes.
local function keep_for(key, ms)
  if redis.call('PTTL', key) < ms then
    redis.call('PEXPIRE', key, ms + 1000 * SPAN)
  end
end

local function write_let_in(subject, account)
  if #account.let_in == 0 then
    return
  end
  local open, waiting = {}, {'total', account.used.bytes}
  for _, each in ipairs(account.let_in) do
    table.insert(open, each.until_ms)
    table.insert(open, each.job)
    table.insert(waiting, each.job)
    table.insert(waiting, each.bytes)
  end
  redis.call('ZADD', limit_key(subject, 'open'), unpack(open))
  redis.call('ZREMRANGEBYSCORE', limit_key(subject, 'open'), '-inf', account.now)
  redis.call('HSET', limit_key(subject, 'waiting'), unpack(waiting))
  keep_for(limit_key(subject, 'open'), account.kept_ms)
  keep_for(limit_key(subject, 'waiting'), account.kept_ms)
end

local function write_begun(subject, jobs)
  local key, found, bytes = limit_key(subject, 'waiting'), {}, 0
  for i, of_job in ipairs(#jobs > 0 and redis.call('HMGET', key, unpack(jobs)) or {}) do
    if of_job then
      table.insert(found, jobs[i])
      bytes = bytes + of_job
    end
  end
  if #found > 0 then
    redis.call('HDEL', key, unpack(found))
    redis.call('HINCRBY', key, 'total', -bytes)
    if redis.call('HLEN', key) == 1 then
      redis.call('DEL', key)
    end
  end
end

local function write_account(subject, account)
  if #account.ended > 0 then
    redis.call('ZREM', limit_key(subject, 'open'), unpack(account.ended))
  end
  write_begun(subject, account.begun)
  for _, window in pairs(account.windows) do
    write_window(window)
  end
  for days, tokens in pairs(account.spent) do
    redis.call('HINCRBY', limit_key(subject, 'spent'), 'm' .. month_of(days), tokens)
    if redis.call('HINCRBY', limit_key(subject, 'spent'), 'd' .. days, tokens) == tokens then
      redis.call('EXPIRE', limit_key(subject, 'spent'), 63 * DAY)
    end
  end
  write_let_in(subject, account)
end

-- Write what this script has changed, at its end.
local function write_accounts()
  for subject, account in pairs(accounts) do
    apart_and_logged('limits of ' .. subject, write_account, subject, account)
  end
end

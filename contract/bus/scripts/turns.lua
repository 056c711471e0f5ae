-- Whose turn it is among the jobs that wait for one model. Part of every script that lets one wait or takes one out.
-- The stream of the queue has the jobs; this has their order. Jobs of one class and number are a lane, and lanes go by
-- rank. Within a lane the keys take turns by start-time fair queueing over tokens (Goyal, Vin, Cheng: SIGCOMM 1996):
-- a key's next job starts where its last one ended, by its tokens over its weight, or at the lane's virtual time, if
-- that is later; the lowest start is next. Within a key, the earliest deadline. A lane that had no turn for AGE_MS
-- gets one, though at most one turn in AGED_OF goes so. All steps are O(log n).
--   lanes            sorted set: lane -> rank, of lanes in which jobs wait
--   ages             sorted set: lane -> when it gets a turn whatever goes before it (ms)
--   turns:LANE       sorted set: key -> start tag of its first job, of keys that wait
--   tags:LANE        sorted set: key -> the tag before which it does not start again; * -> the virtual time
--   flow:LANE:KEY    sorted set: entry -> deadline (ms)
--   places           hash: entry -> place, of jobs that wait. A place is 'LANE WEIGHT COST JOB KEY'
--   wake             list: a token for each worker that should look
--   crowded          a worker without room has looked just now: tell it of keys that begin to wait
--   since_aged       how many turns came since the last that came by age
local AGE_MS, AGED_OF, MOST_TOKENS, TAGS_KEPT_MS = 10000, 8, 64, 86400000
local VIRTUAL = '*'

local function prefix_of(queue)
  return string.sub(queue, 1, -6)
end

local function time_ms()
  local clock = redis.call('TIME')
  return clock[1] * 1000 + math.floor(clock[2] / 1000)
end

local function exact(number)
  return string.format('%.17g', number)
end

local function parse(place)
  local lane, weight, cost, job, key = string.match(place, '^(%S+) (%S+) (%S+) (%S*) (.*)$')
  return {lane = lane, weight = tonumber(weight), cost = tonumber(cost), job = job, key = key}
end

local function virtual_time(tags)
  return tonumber(redis.call('ZSCORE', tags, VIRTUAL) or 0)
end

-- The keys that this script has let wait, by lane: of them all but their jobs is written already.
local waits_now = {}

-- Let a job wait for its turn. Answers whether it is the only one of its key in its lane.
local function join(prefix, entry, text, deadline, now)
  local place = parse(text)
  local turns, tags = prefix .. 'turns:' .. place.lane, prefix .. 'tags:' .. place.lane
  redis.call('HSET', prefix .. 'places', entry, text)
  -- Of the same deadline, the first that came.
  local order = math.min(tonumber(string.match(entry, '-(%d+)$') or 0), 999) / 1000
  redis.call('ZADD', prefix .. 'flow:' .. place.lane .. ':' .. place.key, exact(deadline + order), entry)
  local name = place.lane .. ' ' .. place.key
  if waits_now[name] then
    return false
  end
  waits_now[name] = true
  local is_new = not redis.call('ZSCORE', turns, place.key)
  if is_new then
    local own = tonumber(redis.call('ZSCORE', tags, place.key) or 0)
    redis.call('ZADD', turns, exact(math.max(own, virtual_time(tags))), place.key)
    redis.call('ZREM', tags, place.key)
  end
  local class, number = string.match(place.lane, '^(%d+):(-?%d+)$')
  if redis.call('ZADD', prefix .. 'lanes', class * 1000000 + number, place.lane) == 1 then
    redis.call('ZADD', prefix .. 'ages', now + AGE_MS, place.lane)
  end
  return is_new
end

-- Have workers look for so many jobs that have joined.
local function wake(prefix, jobs)
  local tokens = {}
  for i = 1, math.min(jobs, MOST_TOKENS - redis.call('LLEN', prefix .. 'wake')) do
    tokens[i] = 1
  end
  if #tokens > 0 then
    redis.call('RPUSH', prefix .. 'wake', unpack(tokens))
  end
end

-- Tell workers that have no room of a key that begins to wait, if it does.
local function tell_of_key(prefix, begins_to_wait, keep_ms)
  if begins_to_wait and redis.call('EXISTS', prefix .. 'crowded') == 1
      and redis.call('SET', prefix .. 'told', 1, 'NX', 'PX', 20) then
    redis.call('XADD', prefix .. 'cancel', 'MAXLEN', '~', 10000, '*', 'job', '')
    redis.call('PEXPIRE', prefix .. 'cancel', keep_ms)
  end
end

-- Take a job of a key out of the order of a lane. Answers the start tag of the key, and whether that still waits.
local function leave_lane(prefix, entry, lane, key)
  waits_now = {}
  local turns, tags = prefix .. 'turns:' .. lane, prefix .. 'tags:' .. lane
  local flow = prefix .. 'flow:' .. lane .. ':' .. key
  local start = tonumber(redis.call('ZSCORE', turns, key) or 0)
  redis.call('HDEL', prefix .. 'places', entry)
  redis.call('ZREM', flow, entry)
  local still_waits = redis.call('EXISTS', flow) == 1
  if not still_waits then
    redis.call('ZREM', turns, key)
    redis.call('ZADD', tags, exact(start), key)
    if redis.call('EXISTS', turns) == 0 then
      redis.call('ZREM', prefix .. 'lanes', lane)
      redis.call('ZREM', prefix .. 'ages', lane)
    end
  end
  return start, still_waits
end

-- Take a job out of the order, if it waits. Answers its place, the start tag of its key, and whether that still waits.
local function leave(prefix, entry)
  local text = redis.call('HGET', prefix .. 'places', entry)
  if not text then
    return nil
  end
  local place = parse(text)
  return place, leave_lane(prefix, entry, place.lane, place.key)
end

-- The entry whose turn it is, whether by its age alone, whether several lanes wait, and its lane and key; nil if none waits.
local function first(prefix, now)
  local lanes, aged = redis.call('ZRANGE', prefix .. 'lanes', 0, 1), false
  local lane = lanes[1]
  if not lane then
    return nil
  end
  if lanes[2] then
    local latest = redis.call('ZRANGE', prefix .. 'ages', -1, -1, 'WITHSCORES')
    if tonumber(latest[2]) > now + AGE_MS then -- The clock was set back.
      redis.call('ZADD', prefix .. 'ages', now + AGE_MS, latest[1])
    end
    local oldest = redis.call('ZRANGE', prefix .. 'ages', 0, 0, 'WITHSCORES')
    local since = tonumber(redis.call('GET', prefix .. 'since_aged') or 0)
    if oldest[1] ~= lane and tonumber(oldest[2]) <= now and since >= AGED_OF - 1 then
      lane, aged = oldest[1], true
    end
  end
  local key = redis.call('ZRANGE', prefix .. 'turns:' .. lane, 0, 0)[1]
  return redis.call('ZRANGE', prefix .. 'flow:' .. lane .. ':' .. key, 0, 0)[1], aged, lanes[2] ~= nil, lane, key
end

-- The start tags that had their turn in this script, by lane: the largest.
local turned = {}

-- A job has its turn: it leaves the order, and its key pays for it.
local function take(prefix, entry, aged, several, now)
  local place, start, still_waits = leave(prefix, entry)
  local of_key = prefix .. (still_waits and 'turns:' or 'tags:') .. place.lane
  redis.call('ZADD', of_key, exact(start + place.cost / place.weight), place.key)
  turned[place.lane] = math.max(start, turned[place.lane] or 0)
  redis.call('ZADD', prefix .. 'ages', 'XX', now + AGE_MS, place.lane)
  if aged then
    redis.call('DEL', prefix .. 'since_aged')
  elseif several then
    redis.call('INCR', prefix .. 'since_aged')
  end
end

-- Let the virtual time of lanes follow the jobs that this script has taken, and forget tags that it has passed.
local function advance(prefix)
  for lane, start in pairs(turned) do
    local tags = prefix .. 'tags:' .. lane
    local virtual = exact(math.max(start, virtual_time(tags)))
    redis.call('ZADD', tags, virtual, VIRTUAL)
    redis.call('ZREMRANGEBYSCORE', tags, '-inf', '(' .. virtual)
    redis.call('PEXPIRE', tags, TAGS_KEPT_MS)
  end
end

-- A job cost its key so many tokens more than it paid, or fewer: gather that for `settle`.
local function add_cost(costs, place, tokens)
  local name = place.lane .. ' ' .. place.key
  costs[name] = costs[name] or {place = place}
  table.insert(costs[name], tokens / place.weight)
end

-- Charge a key for what its jobs cost, one after the other. A refund takes it no further than to the virtual time: credit
-- from when it was alone would be paid by others.
local function charge(prefix, lane, key, costs)
  local turns, tags = prefix .. 'turns:' .. lane, prefix .. 'tags:' .. lane
  local virtual, waits = virtual_time(tags), redis.call('ZSCORE', turns, key)
  local tag = tonumber(waits or redis.call('ZSCORE', tags, key) or virtual)
  for _, cost in ipairs(costs) do
    local settled = tag + cost
    tag = cost < 0 and math.max(settled, math.min(tag, virtual)) or settled
  end
  redis.call('ZADD', waits and turns or tags, exact(tag), key)
end

local function settle(prefix, costs)
  for name, of_key in pairs(costs) do
    apart_and_logged('turns of ' .. name, charge, prefix, of_key.place.lane, of_key.place.key, of_key)
  end
end

-- Claim the jobs whose turn it is. A claim is an entry of the group's pending list, as ever.
-- KEYS: queue
-- ARGV: group, worker, max entries
-- Answers {entry, fields, 1 if its turn came by age alone} for each.
local prefix, now = prefix_of(KEYS[1]), time_ms()

-- Jobs that an earlier ew has put: they have no place yet. Each gets one, as of the normal class and of its own key.
local function adopt()
  local from = '-'
  while true do
    local entries = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', 100)
    if #entries == 0 then
      return
    end
    for _, entry in ipairs(entries) do
      from = '(' .. entry[1]
      local held = redis.call('XPENDING', KEYS[1], ARGV[1], entry[1], entry[1], 1)
      if #held == 0 and redis.call('HEXISTS', prefix .. 'places', entry[1]) == 0 then
        local ok, job = pcall(cmsgpack.unpack, entry[2][2])
        job = ok and type(job) == 'table' and job or {}
        local id = string.gsub(tostring(job.id or ''), '%s', '')
        local key = string.gsub(tostring(job.key_id or ''), '%s', '')
        local deadline = tonumber(redis.call('HGET', prefix .. 'job:' .. id, 'deadline') or now)
        join(prefix, entry[1], '1:0 1 1000 ' .. id .. ' ' .. key, deadline, now)
        wake(prefix, 1)
      end
    end
  end
end

local waiting = redis.call('XLEN', KEYS[1]) - redis.call('XPENDING', KEYS[1], ARGV[1])[1]
local places = redis.call('HLEN', prefix .. 'places')
if waiting > places then
  adopt()
end

-- The job whose turn it is leaves the order. Answers whether it is to be claimed: a worker of an earlier ew may have claimed
-- it past this order, and then more have places than wait.
local function have_turn(entry, aged, several)
  if waiting < places and #redis.call('XPENDING', KEYS[1], ARGV[1], entry, entry, 1) > 0 then
    assert(leave(prefix, entry), 'it has no place')
    return false
  end
  take(prefix, entry, aged, several, now)
  return true
end

local claimed, is_lost = {}, false
while #claimed < tonumber(ARGV[3]) do
  local entry, aged, several, lane, key = first(prefix, now)
  if not entry then
    redis.call('DEL', prefix .. 'wake')
    break
  end
  local turn = apart(have_turn, entry, aged, several)
  local taken = turn == true and redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, entry, 'FORCE') or {}
  if taken[1] then
    table.insert(claimed, {entry, taken[1][2], aged and 1 or 0})
  elseif type(turn) == 'table' then
    -- Its place cannot be read. It gets another, as the last of all (`adopt`).
    redis.log(redis.LOG_WARNING, 'ew: the place of ' .. entry .. ' in ' .. KEYS[1] .. ': ' .. turn[2])
    leave_lane(prefix, entry, lane, key)
    is_lost = true
  end
end
advance(prefix)
if is_lost then
  wake(prefix, 1)
end
return claimed
